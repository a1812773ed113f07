"""Redaction of secrets in errors, logs and posted messages.

A secret is a password in a URL, or the value of an environment variable whose name marks it as secret.
"""

import logging
import os
import re
import sys
import traceback
from types import TracebackType

SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|KEY|CREDENTIALS?|WEBHOOK)(_|$)|PASSWORD", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*(?=@)")
# Shorter values (`1`, `true`, a port) are not secrets, and redacting them would remove ordinary text.
_SHORTEST = 8


def redact(text: str) -> str:
    """Return the text with passwords in URLs and values of secret environment variables replaced."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and SECRET_NAME.search(name):
            text = text.replace(value, f"<{name}>")
    return _PASSWORD.sub("<password>", text)


class RedactingFilter(logging.Filter):
    """Logging filter for library handlers: `huggingface_hub` logs unreachable URLs including their password."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True


def redact_hub_logs() -> None:
    """Add the filter to huggingface_hub's handlers; call this before any request to a hub."""
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.get_logger("huggingface_hub")  # creates its handler
    for handler in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(each, RedactingFilter) for each in handler.filters):
            handler.addFilter(RedactingFilter())


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback as Python does, with secrets redacted; for use as `sys.excepthook`."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
