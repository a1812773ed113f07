"""What a terminal shows of a run: the lines that assets write, without Dagster's own bookkeeping."""

import logging
import sys
from typing import Any

import dagster as dg

from persona_assets.files.redaction import redact

# Run config that chooses the code location's own logger; Dagster's default would be taken otherwise.
PLAIN_LINES: dict[str, Any] = {"loggers": {"console": {"config": {}}}}


@dg.logger({"log_level": dg.Field(str, default_value="INFO")}, description="One plain line a message.")
def terminal(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Writes `HH:MM:SS message` to standard error, from INFO up."""
    logger = logging.Logger("persona_assets", level=str(init_context.logger_config["log_level"]).upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    return logger


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Dagster puts job, run and step into the message and keeps the original beside it.
        original = getattr(record, "dagster_meta", {}).get("orig_message")
        if original is not None:
            record = logging.makeLogRecord({**record.__dict__, "msg": original, "args": None})
        return redact(super().format(record))
