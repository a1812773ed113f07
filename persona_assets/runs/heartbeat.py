"""Lines of long computations that log nothing themselves: a run that works is never silent for more than ten seconds.

Stages that know how far they are log that themselves (see `stages.progress`); these lines fill the gaps.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Seconds without a line after which one is logged.
SILENCE = 9.0


class Heartbeat:
    """Logger that notes when it was last used; everything else is the wrapped logger's.

    Attributes:
        log: the wrapped logger.
    """

    def __init__(self, log: Any) -> None:
        self.log = log
        self.last = time.monotonic()

    def info(self, message: str, *arguments: Any) -> None:
        """Log a line, and restart the time of silence."""
        self.last = time.monotonic()
        self.log.info(message, *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)


@contextmanager
def heartbeat(log: Any, describe: Callable[[], str], silence: float = SILENCE) -> Iterator[Heartbeat]:
    """Log a line whenever nothing else was logged for a while, from a thread, until the context ends.

    Args:
        log: where lines go.
        describe: returns what is done so far; the time since the start is appended.
        silence: seconds without a line.

    Yields:
        The logger to use in place of `log`.
    """
    watched, ended, start = Heartbeat(log), threading.Event(), time.monotonic()

    def watch() -> None:
        while not ended.wait(max(0.01, watched.last + silence - time.monotonic())):
            if time.monotonic() - watched.last >= silence:
                watched.info(f"{describe()}; working for {time.monotonic() - start:.0f} s")

    thread = threading.Thread(target=watch, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield watched
    finally:
        ended.set()
        thread.join()
