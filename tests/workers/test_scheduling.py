"""Scheduling of tasks, with real threads and scripted workers."""

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
class FakeWorker:
    """Computes personas once `begin` is set; dies at those in `fatal` and raises an error at those in `faulty`."""

    name: str
    fatal: Sequence[str] = ()
    faulty: Sequence[str] = ()
    begin: Event | None = None
    computed: list[str] = field(default_factory=list)
    closed: bool = False

    def work(self, task: Task) -> Iterator[Result]:
        for persona in task.personas:
            if self.begin is not None:
                self.begin.wait(20)
            if persona in self.fatal:
                raise WorkerDiedError(f"{self.name} died")
            if persona in self.faulty:
                raise ValueError(f"{persona} is faulty")
            self.computed.append(persona)
            yield Result("c", persona, {"by": self.name}, {})

    def close(self) -> None:
        self.closed = True


def singles() -> list[Task]:
    return [task(persona) for persona in PERSONAS]


def names(results: Iterator[Result]) -> list[str]:
    return [result.persona for result in results]


def test_every_persona_is_computed_once_by_the_next_idle_worker() -> None:
    waiting = Event()
    slow, quick = FakeWorker("slow", begin=waiting), FakeWorker("quick")
    found = []
    for result in run_on_workers(singles(), lambda: [slow, quick]):
        found.append(result.persona)
        if len(found) == len(PERSONAS) - 1:  # only the persona that the slow worker is computing is left
            waiting.set()
    assert sorted(found) == sorted(PERSONAS)
    assert (len(slow.computed), len(quick.computed)) == (1, 11)
    assert not slow.closed


def test_only_the_unfinished_personas_of_a_dead_worker_are_reassigned() -> None:
    said: list[str] = []
    begin = Event()
    first, second = FakeWorker("first", fatal=["p2"]), FakeWorker("second", begin=begin)
    tasks = [task("p0", "p1", "p2", "p3"), task("p4")]
    found = []
    for result in run_on_workers(tasks, lambda: [first, second], said.append):
        found.append(result.persona)
        if result.persona == "p1":
            begin.set()
    assert sorted(found) == ["p0", "p1", "p2", "p3", "p4"]
    assert first.computed == ["p0", "p1"]
    assert set(second.computed) == {"p2", "p3", "p4"}
    assert said == ["first died; reassigning p2, p3"]


def test_the_run_fails_if_two_workers_die_at_the_same_persona() -> None:
    workers = [FakeWorker(name, fatal=["p3"]) for name in ("first", "second", "third")]
    with pytest.raises(WorkerError, match="p3: 2 workers died computing it; last error: "):
        names(run_on_workers(singles(), lambda: workers))
    assert sum("p3" in worker.computed for worker in workers) == 0


def test_the_run_fails_if_no_worker_is_left() -> None:
    workers = [FakeWorker("only", fatal=["p0"])]
    with pytest.raises(WorkerError, match="no worker is left; last error: only died"):
        names(run_on_workers(singles(), lambda: workers))


def test_an_error_ends_the_run_after_the_other_workers_have_finished_their_tasks() -> None:
    both = Barrier(2)
    failed = Event()

    class Faulty(FakeWorker):
        def work(self, task: Task) -> Iterator[Result]:
            both.wait(20)
            failed.set()
            raise ValueError("the first is faulty")

    faulty = Faulty("faulty")

    class Sound(FakeWorker):
        def work(self, task: Task) -> Iterator[Result]:
            if not self.computed:
                both.wait(20)
                failed.wait(20)
                time.sleep(0.1)  # let the failure be recorded
            yield from super().work(task)

    found: list[str] = []
    sound = Sound("sound")
    with pytest.raises(ValueError, match="the first is faulty"):
        found.extend(result.persona for result in run_on_workers(singles(), lambda: [faulty, sound]))
    assert found == sound.computed
    assert len(found) == 1


def test_a_worker_that_joins_later_is_used() -> None:
    release = Event()
    first = FakeWorker("first", begin=release)
    second = FakeWorker("second")
    found = []
    calls = iter(range(1000))

    def workers() -> list[FakeWorker]:
        return [first] if next(calls) == 0 else [first, second]

    for result in run_on_workers(singles()[:3], workers):
        found.append(result.persona)
        if len(found) == 2:
            release.set()
    assert sorted(found) == PERSONAS[:3]
    assert len(second.computed) == 2


def test_workers_are_closed_if_the_caller_stops_reading_results() -> None:
    gate = Semaphore(1)

    class Gated(FakeWorker):
        def work(self, task: Task) -> Iterator[Result]:
            gate.acquire(timeout=20)
            yield from super().work(task)

    workers = [Gated("first"), Gated("second")]
    results = run_on_workers(singles(), lambda: workers)
    next(results)
    results.close()  # type: ignore[attr-defined]
    gate.release(2)
    assert all(worker.closed for worker in workers)


def artefact(tokens: int) -> Artefact:
    return Artefact("generations", "f", Path(), {}, {"tokens": tokens}, "")


def test_the_persona_with_the_longest_input_comes_first() -> None:
    gpu = Gpu(device="cpu")
    lengths = {"p0": 3, "p1": 9, "p2": 5}
    whole = task(*lengths, stage="logit_js", **{name: artefact(tokens) for name, tokens in lengths.items()})
    assert [each.personas for each in split_task(whole, 2, gpu)] == [("p1",), ("p2",), ("p0",)]


def test_responses_of_vllm_stay_one_batch_and_training_sets_are_split_among_workers() -> None:
    from persona_assets.inference.engines import Engine

    gpu: Any = Gpu(device="cpu")
    gpu._engine = Engine("vllm", "the test says so", "0")
    pieces = [each.personas for each in split_task(task("a", "b", "c", stage="generations"), 2, gpu)]
    assert pieces == [("a", "b", "c"), ()]  # one batch, as on one GPU; the other worker only loads the model
    pieces = [each.personas for each in split_task(task("a", "b", "c", stage="marker_adapter"), 2, gpu)]
    assert pieces == [("a", "c"), ("b",)]
    assert len(split_task(task("a", "b", "c", stage="centroids"), 2, gpu)) == 3
