"""Rendering of untrusted chat templates in a separate process, which is killed when a template takes too long."""

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

# Limits per rendered text: CPU time (a usual template takes milliseconds), and wall-clock time for busy machines.
SECONDS, TIMEOUT = 0.6, 60.0
LONGEST = 8 * 2**20  # characters
_WORKER = Path(__file__).with_name("worker.py")
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # others may contain secrets


class TemplateError(ValueError):
    """Failure to render a template; the message does not include the model's name."""


class _Renderer:
    """Worker process that is started when first needed, and restarted after a template has killed it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop the process without stopping it; a forked child must not use its parent's pipes."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            process = self._process = self._process or self._start()
            try:
                answer = self._exchange(process, json.dumps(question).encode() + b"\n")
            except BaseException:  # otherwise the next request would read the answer to this one
                self._end()
                raise
            if answer:
                return dict(json.loads(answer))
            status = self._end()
        if status == -signal.SIGPROF:
            raise TemplateError(f"takes longer than {question['seconds']} s")
        raise TemplateError(f"crashed the rendering process (status {status})")

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
            start_new_session=True,  # keep Ctrl-C from reaching the worker
        )

    @staticmethod
    def _exchange(process: subprocess.Popen[bytes], line: bytes) -> bytes:
        """Send a line and return the answer; empty if the process ended or did not answer in time."""
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            return b""
        readable, _, _ = select.select([process.stdout], [], [], TIMEOUT)
        return process.stdout.readline() if readable else b""

    def _end(self) -> int | None:
        """Stop the process if it is running, and return its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()  # an idle worker exits on end of input
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
    """Render a chat template as Transformers would, but with a fixed date.

    Args:
        variables: JSON-serialisable template variables.
        seconds: limit of CPU time.

    Raises:
        TemplateError: the template raises an error, takes more than `seconds` of CPU time, needs more than 150 MiB of
            memory or writes more than 8 Mi characters.
    """
    answer = _renderer.ask({"template": template, "variables": variables, "seconds": seconds, "longest": LONGEST})
    if "error" in answer:
        raise TemplateError(answer["error"])
    return str(answer["text"])


def variables_of(template: str, seconds: float = SECONDS) -> list[str]:
    """Return the names of the variables that a chat template reads, sorted; globals such as `range` are not among them.

    Raises:
        TemplateError: the template is not valid Jinja, or takes too long or too much memory to parse.
    """
    answer = _renderer.ask({"template": template, "names": True, "seconds": seconds})
    if "error" in answer:
        raise TemplateError(answer["error"])
    return [str(name) for name in answer["names"]]
