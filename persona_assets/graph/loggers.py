"""Console logger that prints the assets' own log lines without Dagster's prefixes."""

import logging
import sys
from typing import Any

import dagster as dg

from persona_assets.files.redaction import redact

# Run config that selects this logger; without it Dagster uses its default one.
PLAIN_LINES: dict[str, Any] = {"loggers": {"console": {"config": {}}}}


@dg.logger({"log_level": dg.Field(str, default_value="INFO")}, description="One plain line per message.")
def terminal(init_context: dg.InitLoggerContext) -> logging.Logger:
    """Build a logger that writes `HH:MM:SS message` to standard error, by default from level INFO."""
    logger = logging.Logger("persona_assets", level=str(init_context.logger_config["log_level"]).upper())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.addHandler(handler)
    return logger


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Dagster prefixes the message with job, run and step, and keeps the original in `dagster_meta`.
        original = getattr(record, "dagster_meta", {}).get("orig_message")
        if original is not None:
            record = logging.makeLogRecord({**record.__dict__, "msg": original, "args": None})
        return redact(super().format(record))
