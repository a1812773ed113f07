"""One process a card, under the run's: each loads the model once and lives as long as the run's process."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from persona_assets.graph.home import Home
from persona_assets.graph.resources import Gpu
from persona_assets.inference.child_process import end
from persona_assets.workers.batching import split_task
from persona_assets.workers.cards import Cards
from persona_assets.workers.scheduling import run_on_workers
from persona_assets.workers.tasks import Result, Task, WorkerDiedError
from persona_assets.workers.worker import TaskRequest, read_message

COMMAND = [sys.executable, "-P", "-m", "persona_assets.workers.worker_process"]
_LINES_SHOWN = 15
# The processes that this one has, and the cards that they hold: kept from stage to stage and from run to run.
_crew: list["ProcessWorker"] = []
_held: list[Cards] = []


class ProcessWorkers:
    """`Workers` in processes on this host.

    Args:
        count: processes.
        cards_each: cards of each; 0 on a CPU.
    """

    def __init__(self, gpu: Gpu, home: Home, log: Any, count: int, cards_each: int) -> None:
        self.gpu, self.home, self.log, self.count, self.cards_each = gpu, home, log, count, cards_each

    def make(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Workers`."""
        if not tasks:
            return
        crew = self._processes()
        for worker in crew:
            worker.gpu, worker.log = self.gpu, self.log
        work = [share for task in tasks for share in split_task(task, len(crew), self.gpu)]
        yield from run_on_workers(work, lambda: crew, self.log.warning)

    def _processes(self) -> list["ProcessWorker"]:
        wanted = (self.home.root, self.count, self.cards_each)
        if [worker.belongs_to for worker in _crew] != [wanted] * self.count:
            close_processes()
            names = [f"worker {number}" for number in range(self.count)]
            # Processes that share cores: threads that wait by spinning keep the others' from working (8 times as slow).
            environments = [{"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}] * self.count
            if self.cards_each:
                held = Cards.take(self.home, self.count * self.cards_each, self.log.info)
                _held.append(held)
                shares = [held.names[start :: self.count] for start in range(self.count)]
                names = [f"card {' and '.join(share)}" for share in shares]
                environments = [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]
            _crew.extend(
                ProcessWorker(name, environment, wanted) for name, environment in zip(names, environments, strict=True)
            )
        return list(_crew)


class ProcessWorker:
    """One of them; its process starts with the first task, and again with the first after it died."""

    def __init__(self, name: str, environment: dict[str, str], belongs_to: tuple[Any, ...]) -> None:
        self.name, self.belongs_to, self._environment = name, belongs_to, environment
        self.gpu: Gpu
        self.log: Any
        self.process: subprocess.Popen[bytes] | None = None

    def work(self, task: Task) -> Iterator[Result]:
        """See `Worker`."""
        process = self.process or self._launch()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # that it is gone is found out with the answer
            process.stdin.write(TaskRequest.of(task, self.gpu.settings).model_dump_json().encode() + b"\n")
            process.stdin.flush()
        while "done" not in (about := self._about()):
            if "said" in about:
                self.log.info(f"{self.name}: {about['said']}")
            else:
                yield read_message(about, [self._read(size) for size in about["sizes"]], self.name)

    def close(self) -> None:
        """See `Worker`."""
        if (process := self.process) is not None:
            process.kill()
            process.wait()

    def _launch(self) -> "subprocess.Popen[bytes]":
        self._end()
        read, write = os.pipe()
        self._answers = os.fdopen(read, "rb")
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (closed by _end)
        home, *_ = self.belongs_to
        self.process = subprocess.Popen(
            [*COMMAND, str(write), str(home)],
            stdin=subprocess.PIPE,
            stdout=self._printed,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            env=os.environ | self._environment,
        )
        os.close(write)
        return self.process

    def _about(self) -> Any:
        line = self._answers.readline()
        return json.loads(line) if line.endswith(b"\n") else self._died()

    def _read(self, size: int) -> bytes:
        blob = self._answers.read(size)
        return blob if len(blob) == size else self._died()

    def _died(self) -> Any:
        assert self.process is not None
        code = self.process.wait()
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").splitlines()[-_LINES_SHOWN:]
        self._end()
        printed = "; the last that it printed:\n" + "\n".join(lines) if lines else ""
        raise WorkerDiedError(f"{self.name} ended with exit code {code}{printed}")

    def _end(self) -> None:
        if (process := self.process) is None:
            return
        self.process = None
        end(process)  # what it has started in turn ends with it
        self._answers.close()
        self._printed.close()


@atexit.register
def close_processes() -> None:
    """Ends this process's workers and gives their cards back."""
    for worker in _crew:
        worker._end()
    for held in _held:
        held.give_back()
    _crew.clear()
    _held.clear()
