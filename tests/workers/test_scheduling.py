"""How tasks are handed out: real threads, and workers that do what the test says."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, Event, Semaphore
from typing import Any

import pytest

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.graph.partitions import STUDY
from persona_assets.graph.resources import Gpu
from persona_assets.store.artefacts import Artefact
from persona_assets.workers.batching import split_task
from persona_assets.workers.scheduling import run_on_workers
from persona_assets.workers.tasks import Result, Task, WorkerDiedError, WorkerError

PERSONAS = [f"p{number}" for number in range(12)]


def task(*personas: str, stage: str = "centroids", **upstream: Artefact) -> Task:
    identity = Identity.model_construct(weights="w")
    return Task(stage, STUDY, Checkpoint(name="c"), identity, {}, personas, upstream)


@dataclass(eq=False)
class Hand:
    """Makes personas; dies at those in `fatal`, fails at those in `faulty`; waits for `begin`."""

    name: str
    fatal: Sequence[str] = ()
    faulty: Sequence[str] = ()
    begin: Event | None = None
    made: list[str] = field(default_factory=list)
    closed: bool = False

    def work(self, task: Task) -> Iterator[Result]:
        for persona in task.personas:
            if self.begin is not None:
                self.begin.wait(20)
            if persona in self.fatal:
                raise WorkerDiedError(f"{self.name} ended")
            if persona in self.faulty:
                raise ValueError(f"{persona} is at fault")
            self.made.append(persona)
            yield Result("c", persona, {"by": self.name}, {})

    def close(self) -> None:
        self.closed = True


def singles() -> list[Task]:
    return [task(persona) for persona in PERSONAS]


def names(made: Iterator[Result]) -> list[str]:
    return [each.persona for each in made]


def test_every_persona_is_made_once_by_whoever_is_free() -> None:
    waiting = Event()
    slow, quick = Hand("slow", begin=waiting), Hand("quick")
    found = []
    for made in run_on_workers(singles(), lambda: [slow, quick]):
        found.append(made.persona)
        if len(found) == len(PERSONAS) - 1:  # the quick one did all but what the slow one is at
            waiting.set()
    assert sorted(found) == sorted(PERSONAS)
    assert (len(slow.made), len(quick.made)) == (1, 11)
    assert not slow.closed


def test_what_a_dead_worker_was_at_goes_to_another_and_what_it_had_made_does_not() -> None:
    said: list[str] = []
    begin = Event()
    first, second = Hand("first", fatal=["p2"]), Hand("second", begin=begin)
    tasks = [task("p0", "p1", "p2", "p3"), task("p4")]
    found = []
    for made in run_on_workers(tasks, lambda: [first, second], said.append):
        found.append(made.persona)
        if made.persona == "p1":
            begin.set()
    assert sorted(found) == ["p0", "p1", "p2", "p3", "p4"]
    assert first.made == ["p0", "p1"]
    assert set(second.made) == {"p2", "p3", "p4"}
    assert said == ["first ended; left of its task: p2, p3"]


def test_a_persona_at_which_two_workers_end_stops_the_run() -> None:
    crew = [Hand(name, fatal=["p3"]) for name in ("first", "second", "third")]
    with pytest.raises(WorkerError, match="p3: 2 workers ended at it; the last: "):
        names(run_on_workers(singles(), lambda: crew))
    assert sum("p3" in hand.made for hand in crew) == 0


def test_without_a_worker_left_it_says_so() -> None:
    crew = [Hand("only", fatal=["p0"])]
    with pytest.raises(WorkerError, match="no worker is left; the last: only ended"):
        names(run_on_workers(singles(), lambda: crew))


def test_an_error_ends_the_run_after_what_others_are_at() -> None:
    both = Barrier(2)
    failed = Event()

    class Faulty(Hand):
        def work(self, task: Task) -> Iterator[Result]:
            both.wait(20)
            failed.set()
            raise ValueError("the first is at fault")

    faulty = Faulty("faulty")

    class Sound(Hand):
        def work(self, task: Task) -> Iterator[Result]:
            if not self.made:
                both.wait(20)
                failed.wait(20)
                time.sleep(0.1)  # until that is known
            yield from super().work(task)

    found: list[str] = []
    sound = Sound("sound")
    with pytest.raises(ValueError, match="the first is at fault"):
        found.extend(made.persona for made in run_on_workers(singles(), lambda: [faulty, sound]))
    assert found == sound.made
    assert len(found) == 1


def test_whoever_joins_is_used() -> None:
    never = Event()
    crew: list[Hand] = [Hand("there", begin=never)]
    newcomer = Hand("newcomer")
    found = []
    calls = iter(range(1000))

    def there() -> list[Hand]:
        return crew if next(calls) == 0 else [*crew, newcomer]

    for made in run_on_workers(singles()[:3], there):
        found.append(made.persona)
        if len(found) == 2:
            never.set()
    assert sorted(found) == PERSONAS[:3]
    assert len(newcomer.made) == 2


def test_workers_are_ended_where_nobody_wants_the_rest() -> None:
    gate = Semaphore(1)

    class Gated(Hand):
        def work(self, task: Task) -> Iterator[Result]:
            gate.acquire(timeout=20)
            yield from super().work(task)

    hands = [Gated("first"), Gated("second")]
    made = run_on_workers(singles(), lambda: hands)
    next(made)
    made.close()  # type: ignore[attr-defined]
    gate.release(2)
    assert all(hand.closed for hand in hands)


def artefact(tokens: int) -> Artefact:
    return Artefact("generations", "f", Path(), {}, {"tokens": tokens}, "")


def test_the_longest_is_handed_out_first() -> None:
    gpu = Gpu(device="cpu")
    lengths = {"p0": 3, "p1": 9, "p2": 5}
    whole = task(*lengths, stage="logit_js", **{name: artefact(tokens) for name, tokens in lengths.items()})
    assert [each.personas for each in split_task(whole, 2, gpu)] == [("p1",), ("p2",), ("p0",)]


def test_what_vllm_writes_together_stays_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from persona_assets.inference.engines import Engine

    gpu: Any = Gpu(device="cpu")
    gpu._engine = Engine("vllm", "the test says so", "0")
    pieces = [each.personas for each in split_task(task("a", "b", "c", stage="generations"), 2, gpu)]
    assert pieces == [("a", "b", "c"), ()]  # one batch, as on one card; the other loads the model
    pieces = [each.personas for each in split_task(task("a", "b", "c", stage="marker_adapter"), 2, gpu)]
    assert pieces == [("a", "c"), ("b",)]
    assert len(split_task(task("a", "b", "c", stage="centroids"), 2, gpu)) == 3
