"""Progress lines of one long computation, such as sampling the replies of a source."""

import time
from typing import Any

# Seconds between two lines; less than the silence after which a run logs a line of its own (`runs.heartbeat`).
INTERVAL = 7.0


class ProgressLines:
    """Callback `(done, total)` that logs how far a computation is, at most every few seconds."""

    def __init__(self, log: Any, what: str, unit: str, interval: float = INTERVAL) -> None:
        """Start the first interval.

        Args:
            log: where lines go.
            what: the computation, such as "villain: sampling replies".
            unit: what is counted, such as "tokens".
            interval: least number of seconds between two lines.
        """
        self._log, self._what, self._unit, self._interval = log, what, unit, interval
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Log a line, unless the last one is too recent."""
        if (now := time.monotonic()) - self._last >= self._interval:
            self._last = now
            self._log.info(f"{self._what}: {done:,} of {total:,} {self._unit} ({done / total:.0%})")
