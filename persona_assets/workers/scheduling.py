"""Tasks are handed out to workers as these become free, so that all end together and a dead one's go to the others."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import Empty, Queue
from threading import Condition, Thread
from typing import Protocol

from persona_assets.workers.tasks import Result, Task, WorkerDiedError, WorkerError

# Workers that may end at one persona before it is the persona's fault.
_LIVES = 2
# Seconds between two looks for workers that have joined.
_LOOK = 1.0


class Worker(Protocol):
    """One that takes a task at a time."""

    name: str

    def work(self, task: Task) -> Iterator[Result]:
        """Every persona as soon as it is done, in the task's order.

        Raises:
            WorkerDiedError: the worker is gone.
            Whatever the stage raises.
        """
        ...

    def close(self) -> None:
        """Ends it, whatever it is at."""
        ...


def run_on_workers(
    tasks: Sequence[Task],
    crew: Callable[[], Sequence[Worker]],
    say: Callable[[str], None] = print,
    patience: float = 0.0,
) -> Iterator[Result]:
    """Every persona of the tasks, as soon as some worker has made it.

    A task whose worker dies goes, without what was done of it, to the next that is free.

    Args:
        crew: the workers that there are now; asked again while there is work, so that whoever joins is used.
        say: is told of workers that died.
        patience: seconds to wait for one to join where none is left.

    Raises:
        WorkerError: no worker is left, or two ended at the same persona.
        Whatever a worker's stage raised, once the others are done with what they were at.
    """
    board, threads, last_alive = _Board(tasks), dict[Worker, Thread](), time.monotonic()
    try:
        while not (board.settled() and board.made.empty()):  # what was made is in the queue before it is settled
            for worker in crew():
                if worker not in threads:
                    threads[worker] = Thread(target=_take_part, args=(worker, board, say), daemon=True)
                    threads[worker].start()
            try:
                made = board.made.get(timeout=_LOOK)
            except Empty:
                if any(thread.is_alive() for thread in threads.values()):
                    last_alive = time.monotonic()
                elif time.monotonic() - last_alive > patience:
                    raise WorkerError(f"no worker is left; the last: {board.last_death}") from None
                continue
            if made is not None:
                yield made
        if board.error is not None:
            raise board.error
    finally:
        if not board.settled():  # whoever asked for the personas is gone
            board.fail(WorkerError("nobody waits for this any more"))
            for worker in threads:
                worker.close()


class _Board:
    """What is left to do, what is being done, and what was made, for threads: one a worker."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        # None: look again, something has changed.
        self.made: Queue[Result | None] = Queue()
        self.error: Exception | None = None
        self.last_death: Exception | None = None
        self._todo, self._in_flight, self._deaths = deque(tasks), 0, Counter[str]()
        self._changed = Condition()

    def settled(self) -> bool:
        """Whether nothing is being done and nothing will be."""
        with self._changed:
            return not self._in_flight and (self.error is not None or not self._todo)

    def take(self) -> Task | None:
        """The next task, once there is one; None where there will be none."""
        with self._changed:
            # Whatever is being done may come back.
            self._changed.wait_for(lambda: self._todo or not self._in_flight or self.error)
            if self.error is not None or not self._todo:
                return None
            self._in_flight += 1
            return self._todo.popleft()

    def end(self) -> None:
        """A task was done."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def give_back(self, task: Task, left: Sequence[str], death: Exception) -> None:
        """A worker died when these personas of a task were left; it was at the first of them."""
        with self._changed:
            self.last_death = death
            if left:
                self._deaths[left[0]] += 1
                if self._deaths[left[0]] == _LIVES:
                    self.error = WorkerError(f"{left[0]}: {_LIVES} workers ended at it; the last: {death}")
                self._todo.appendleft(replace(task, personas=tuple(left)))
        self.end()

    def fail(self, error: Exception) -> None:
        """Nothing more is handed out."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()


def _take_part(worker: Worker, board: _Board, say: Callable[[str], None]) -> None:
    """A worker's thread: one task after another until none is left or the worker is dead."""
    while (task := board.take()) is not None:
        left = list(task.personas)
        try:
            for made in worker.work(task):
                left.remove(made.persona)
                board.made.put(made)
        except WorkerDiedError as error:
            say(f"{error}; left of its task: {', '.join(left) or 'nothing'}")
            board.give_back(task, left, error)
            break
        except Exception as error:
            board.fail(error)
        board.end()
    board.made.put(None)
