"""Shutdown of a child process that reads its commands from standard input."""

import subprocess
from contextlib import suppress
from typing import Any

# Seconds that the process may take to finish its current work.
_TIMEOUT = 30


def end(process: "subprocess.Popen[Any]") -> None:
    """Close the process's standard input, which makes it exit, and kill it after a timeout."""
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
