"""Workers in child processes, one per GPU. Each loads the model once and lives as long as the run's process."""

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
# Worker processes of this process and the GPUs reserved for them; kept across stages and runs.
_workers: list["ProcessWorker"] = []
_reserved: list[Cards] = []


class ProcessWorkers:
    """`Workers` in child processes on this host.

    Args:
        count: number of processes.
        cards_each: GPUs per process; 0 on a CPU.
    """

    def __init__(self, gpu: Gpu, home: Home, log: Any, count: int, cards_each: int) -> None:
        self.gpu, self.home, self.log, self.count, self.cards_each = gpu, home, log, count, cards_each

    def make(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Workers`."""
        if not tasks:
            return
        workers = self._processes()
        for worker in workers:
            worker.gpu, worker.log = self.gpu, self.log
        pieces = [piece for task in tasks for piece in split_task(task, len(workers), self.gpu)]
        yield from run_on_workers(pieces, lambda: workers, self.log.warning)

    def _processes(self) -> list["ProcessWorker"]:
        wanted = (self.home.root, self.count, self.cards_each)
        if [worker.belongs_to for worker in _workers] != [wanted] * self.count:
            close_processes()
            names = [f"worker {number}" for number in range(self.count)]
            # CPU workers share cores: OpenMP threads must block instead of busy-waiting, which is 8 times slower here.
            environments = [{"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}] * self.count
            if self.cards_each:
                reserved = Cards.take(self.home, self.count * self.cards_each, self.log.info)
                _reserved.append(reserved)
                shares = [reserved.names[start :: self.count] for start in range(self.count)]
                names = [f"card {' and '.join(share)}" for share in shares]
                environments = [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]
            _workers.extend(
                ProcessWorker(name, environment, wanted) for name, environment in zip(names, environments, strict=True)
            )
        return list(_workers)


class ProcessWorker:
    """Worker in a child process, which starts with the first task and restarts with the first task after it died."""

    def __init__(self, name: str, environment: dict[str, str], belongs_to: tuple[Any, ...]) -> None:
        self.name, self.belongs_to, self._environment = name, belongs_to, environment
        self.gpu: Gpu
        self.log: Any
        self.process: subprocess.Popen[bytes] | None = None

    def work(self, task: Task) -> Iterator[Result]:
        """See `Worker`."""
        process = self.process or self._launch()
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # a dead process is detected when its answer is read
            process.stdin.write(TaskRequest.of(task, self.gpu.settings).model_dump_json().encode() + b"\n")
            process.stdin.flush()
        while "done" not in (header := self._read_header()):
            if "said" in header:
                self.log.info(f"{self.name}: {header['said']}")
            else:
                yield read_message(header, [self._read(size) for size in header["sizes"]], self.name)

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

    def _read_header(self) -> Any:
        line = self._answers.readline()
        return json.loads(line) if line.endswith(b"\n") else self._raise_died()

    def _read(self, size: int) -> bytes:
        blob = self._answers.read(size)
        return blob if len(blob) == size else self._raise_died()

    def _raise_died(self) -> Any:
        assert self.process is not None
        code = self.process.wait()
        self._printed.seek(0)
        lines = self._printed.read().decode(errors="replace").splitlines()[-_LINES_SHOWN:]
        self._end()
        printed = "; its last output:\n" + "\n".join(lines) if lines else ""
        raise WorkerDiedError(f"{self.name} ended with exit code {code}{printed}")

    def _end(self) -> None:
        if (process := self.process) is None:
            return
        self.process = None
        end(process)  # also ends its own child processes
        self._answers.close()
        self._printed.close()


@atexit.register
def close_processes() -> None:
    """End the worker processes of this process and release their GPUs."""
    for worker in _workers:
        worker._end()
    for cards in _reserved:
        cards.give_back()
    _workers.clear()
    _reserved.clear()
