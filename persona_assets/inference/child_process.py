"""The end of a process that takes its orders from standard input."""

import subprocess
from contextlib import suppress
from typing import Any

# Seconds that it may take over what it is at.
_PATIENCE = 30


def end(process: "subprocess.Popen[Any]") -> None:
    """Closes its standard input, which it ends with, and kills it if it stays."""
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
