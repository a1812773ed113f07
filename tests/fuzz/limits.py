"""What a bad input may cost: three seconds of processor time (one, where it is fast), 200 MB of memory, no waiting.

A chat template is rendered by another process, which has its own limits (`checkpoints.templates.rendering`).
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS, MEGABYTES, LONGEST_MESSAGE = 3.0, 200, 4000
_PATIENCE = 20  # of the clock: tests run beside others


@contextmanager
def within_limits() -> Iterator[None]:
    """Fails where the block takes more than three seconds of this process' time, or 200 MB of its memory."""

    def waited(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"did not come back within {_PATIENCE} s")

    before, resident = time.process_time(), _reset_peak()
    former = signal.signal(signal.SIGALRM, waited)
    signal.alarm(_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    took = time.process_time() - before
    assert took <= SECONDS, f"took {took:.2f} s of processor time; expected at most {SECONDS}"
    grown = _status("VmHWM") - resident
    assert grown <= MEGABYTES, f"took {grown:.0f} MB; expected at most {MEGABYTES}"


def _reset_peak() -> float:
    """Resident memory now, from which on the peak is taken; 0 where the system does not say."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _status("VmHWM")
    return _status("VmRSS")


def _status(field: str) -> float:
    """A line of /proc/self/status in MB; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith(field)), 0.0)
