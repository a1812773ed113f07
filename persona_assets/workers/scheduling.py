"""Dynamic scheduling: idle workers take the next task, and the tasks of workers that die go to the others."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from queue import Empty, Queue
from threading import Condition, Thread
from typing import Protocol

from persona_assets.workers.tasks import Result, Task, WorkerDiedError, WorkerError

# The run fails when this many workers have died at the same persona: the persona is probably the cause.
_MAX_DEATHS = 2
# Seconds between two checks for workers that joined or died.
_POLL_INTERVAL = 1.0


class Worker(Protocol):
    """Worker that computes one task at a time."""

    name: str

    def work(self, task: Task) -> Iterator[Result]:
        """Yield the result of each persona as soon as it is done, in the task's order.

        Raises:
            WorkerDiedError: the worker died.
            Exception: the error of the stage.
        """
        ...

    def close(self) -> None:
        """Terminate the worker, even if it is computing."""
        ...


def run_on_workers(
    tasks: Sequence[Task],
    workers: Callable[[], Sequence[Worker]],
    say: Callable[[str], None] = print,
    join_timeout: float = 0.0,
) -> Iterator[Result]:
    """Compute tasks on several workers, and yield the result of each persona as soon as it is done.

    If a worker dies, the unfinished personas of its task go to the next idle worker.

    Args:
        workers: returns the current workers; polled while there is work, so that workers may join later.
        say: called with a message when a worker dies.
        join_timeout: seconds to wait for a worker to join when none is left.

    Raises:
        WorkerError: no worker is left, or two workers died at the same persona.
        Exception: the error of a stage, after the other workers have finished their current tasks.
    """
    queue, threads, last_alive = _TaskQueue(tasks), dict[Worker, Thread](), time.monotonic()
    try:
        # Results are queued before their task counts as finished, so no result is missed.
        while not (queue.is_finished() and queue.results.empty()):
            for worker in workers():
                if worker not in threads:
                    threads[worker] = Thread(target=_run_worker, args=(worker, queue, say), daemon=True)
                    threads[worker].start()
            try:
                result = queue.results.get(timeout=_POLL_INTERVAL)
            except Empty:
                if any(thread.is_alive() for thread in threads.values()):
                    last_alive = time.monotonic()
                elif time.monotonic() - last_alive > join_timeout:
                    raise WorkerError(f"no worker is left; last error: {queue.last_death}") from None
                continue
            if result is not None:
                yield result
        if queue.error is not None:
            raise queue.error
    finally:
        if not queue.is_finished():  # the caller stopped reading results
            queue.fail(WorkerError("the caller no longer waits for results"))
            for worker in threads:
                worker.close()


class _TaskQueue:
    """Pending tasks, the number in progress, and finished results; shared by the workers' threads."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        # None only wakes the reader up so that it checks the state again.
        self.results: Queue[Result | None] = Queue()
        self.error: Exception | None = None
        self.last_death: Exception | None = None
        self._todo, self._in_flight, self._deaths = deque(tasks), 0, Counter[str]()
        self._changed = Condition()

    def is_finished(self) -> bool:
        """Return whether no task is in progress and none will be started."""
        with self._changed:
            return not self._in_flight and (self.error is not None or not self._todo)

    def take(self) -> Task | None:
        """Wait for the next task and return it; None once there will be no more."""
        with self._changed:
            # A task in progress may be put back, so an empty queue is not the end while there are any.
            self._changed.wait_for(lambda: self._todo or not self._in_flight or self.error)
            if self.error is not None or not self._todo:
                return None
            self._in_flight += 1
            return self._todo.popleft()

    def finish(self) -> None:
        """Mark a task as no longer in progress."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def requeue(self, task: Task, left: Sequence[str], death: Exception) -> None:
        """Put the unfinished personas of a dead worker's task back; it died at the first of them."""
        with self._changed:
            self.last_death = death
            if left:
                self._deaths[left[0]] += 1
                if self._deaths[left[0]] == _MAX_DEATHS:
                    self.error = WorkerError(f"{left[0]}: {_MAX_DEATHS} workers died computing it; last error: {death}")
                self._todo.appendleft(replace(task, personas=tuple(left)))
        self.finish()

    def fail(self, error: Exception) -> None:
        """Start no further task; the first error is kept."""
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()


def _run_worker(worker: Worker, queue: _TaskQueue, say: Callable[[str], None]) -> None:
    """Give a worker one task after another until none is left or it dies; runs in a thread per worker."""
    while (task := queue.take()) is not None:
        left = list(task.personas)
        try:
            for result in worker.work(task):
                left.remove(result.persona)
                queue.results.put(result)
        except WorkerDiedError as error:
            say(f"{error}; reassigning {', '.join(left) or 'nothing'}")
            queue.requeue(task, left, error)
            break
        except Exception as error:
            queue.fail(error)
        queue.finish()
    queue.results.put(None)
