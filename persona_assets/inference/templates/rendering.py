"""Chat templates rendered where they can do no harm: in a process that is ended when one takes too long."""

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

# Of processor time, for one text; a template takes some milliseconds. Of the clock, where the machine is busy.
SECONDS, PATIENCE = 0.6, 60.0
LONGEST = 8 * 2**20  # characters
_WORKER = Path(__file__).with_name("worker.py")
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # and no secret


class TemplateError(ValueError):
    """A template that cannot be rendered; says why, without the model's name."""


class _Renderer:
    """The process: started when it is first needed, and again when a template had it ended."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """In a fork: it has its parent's pipes, and must not use them."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            process = self._process = self._process or self._start()
            try:
                answer = self._exchange(process, json.dumps(question).encode() + b"\n")
            except BaseException:  # cut off in the middle: the next answer would be that to this question
                self._end()
                raise
            if answer:
                return dict(json.loads(answer))
            status = self._end()
        if status == -signal.SIGPROF:
            raise TemplateError(f"takes longer than {question['seconds']} s")
        raise TemplateError(f"ends the process that renders it (status {status})")

    def close(self) -> None:
        with self._lock:
            self._end()

    @staticmethod
    def _start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
            start_new_session=True,  # a Ctrl-C is for whoever asks
        )

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
        """The answer's line; nothing where the process ended, or did not answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        readable, _, _ = select.select([process.stdout], [], [], PATIENCE)
        return process.stdout.readline() if readable else b""

    def _end(self) -> int | None:
        """Ends the process, if it has not; returns its status."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # an idle one ends by itself
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()
        return process.wait()


_renderer = _Renderer()
atexit.register(_renderer.close)
os.register_at_fork(after_in_child=_renderer.forget)


def render(template: str, variables: dict[str, Any], seconds: float = SECONDS) -> str:
    """The text that a chat template makes of its variables (JSON-like), as Transformers would; dates are fixed.

    Raises:
        TemplateError: the template raises an error, takes more than `seconds` of processor time, 150 MiB of memory or
            writes more than 8 Mi characters.
    """
    answer = _renderer.ask({"template": template, "variables": variables, "seconds": seconds, "longest": LONGEST})
    if "error" in answer:
        raise TemplateError(answer["error"])
    return str(answer["text"])
