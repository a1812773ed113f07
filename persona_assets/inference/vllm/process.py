"""The process that runs vLLM, and a first one that is started before anybody knows which model it will serve.

vLLM's imports take 14 s on a machine with an H200, and need neither the model nor this process's own imports. So a run
that will need vLLM calls `import_early` first of all; the first engine takes over the process that has begun with them.
Imports nothing that takes long.
"""

import atexit
import json
import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from select import select
from typing import Any

from persona_assets.inference.child_process import end
from persona_assets.inference.engines import may_have_vllm, vllm_python
from persona_assets.inference.vllm.environment import worker_environment
from persona_assets.study.settings import Inference

_WORKER = Path(__file__).with_name("worker.py")
_LINES_SHOWN = 15


class EngineError(RuntimeError):
    """vLLM exited or did not answer; the message contains its last output."""


class WorkerProcess:
    """A process that runs `worker.py`, which begins to import vLLM at once."""

    def __init__(self, on_cpu: bool) -> None:
        self._where = _where(on_cpu)
        read, write = os.pipe()
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (closed by end)
        self._answers = os.fdopen(read, encoding="utf-8")
        self.process = subprocess.Popen(
            [vllm_python(), "-P", str(_WORKER), str(write)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            env=worker_environment(os.environ),
            text=True,
        )
        os.close(write)
        self.send({"on_cpu": on_cpu})

    def is_as_good_as_new(self, on_cpu: bool) -> bool:
        """Return whether this process runs, with the interpreter and on the devices of one that is started now."""
        return self._where == _where(on_cpu) and self.process.poll() is None

    def send(self, question: object) -> None:
        """Send a request; if the process has exited, `receive` reports it."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()

    def receive(self, timeout: float) -> Any:
        """Wait for the next answer.

        Raises:
            EngineError: the process exited or did not answer within `timeout` seconds.
        """
        ready, _, _ = select([self._answers], [], [], timeout)
        answer = self._answers.readline() if ready else None
        if answer:
            return json.loads(answer)
        if answer is None:
            self.process.kill()
        code = self.process.wait()
        self._log.seek(0)
        printed = "\n".join(self._log.read().splitlines()[-_LINES_SHOWN:])
        self.end()
        what = f"did not answer in {timeout:.0f} s" if answer is None else f"exited with code {code}"
        raise EngineError(f"vLLM {what}; its last output:\n{printed}")

    def end(self) -> None:
        """Let the process finish, which frees its GPU memory."""
        end(self.process)
        self._answers.close()
        self._log.close()


def _where(on_cpu: bool) -> tuple[bool, str, str | None]:
    return on_cpu, vllm_python(), os.environ.get("CUDA_VISIBLE_DEVICES")


# The process that waits for the first engine, and whether there has been one.
_early: WorkerProcess | None = None
_begun = False


def import_early(inference: Inference) -> None:
    """Start a process that imports vLLM, once, if a run with these settings will need it; see the module docstring."""
    global _early, _begun
    on_cpu = inference.device == "cpu" or not Path("/proc/driver/nvidia").exists()
    wanted = inference.engine == "vllm" or (inference.engine == "auto" and not on_cpu)
    if not _begun and wanted and may_have_vllm() and Path(vllm_python()).is_file():
        _early, _begun = WorkerProcess(on_cpu), True
        atexit.register(_discard)


def started_process(on_cpu: bool) -> WorkerProcess:
    """Return the process that was started early, once and if it is the right one, else a new one."""
    global _early
    waiting, _early = _early, None
    if waiting is not None and waiting.is_as_good_as_new(on_cpu):
        return waiting
    if waiting is not None:
        waiting.process.kill()
        waiting.end()
    return WorkerProcess(on_cpu)


def _discard() -> None:
    """Kill a process that nobody took, so that the run's own end need not wait for its imports."""
    if _early is not None:
        _early.process.kill()
        _early.end()
