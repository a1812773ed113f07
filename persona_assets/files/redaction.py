"""Secrets are left out of what people read: errors, logs, lines that are posted.

A secret is a password within an address, and the value of an environment variable whose name says that it is one.
"""

import logging
import os
import re
import sys
import traceback
from types import TracebackType

SECRET_NAME = re.compile(r"(^|_)(TOKEN|SECRET|KEY|CREDENTIALS?|WEBHOOK)(_|$)|PASSWORD", re.IGNORECASE)
_PASSWORD = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]*(?=@)")
# Shorter values (`1`, `true`, a port) are no secrets and would blot out ordinary text.
_SHORTEST = 8


def redact(text: str) -> str:
    """The text without passwords in addresses and without the values of secret environment variables."""
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST and SECRET_NAME.search(name):
            text = text.replace(value, f"<{name}>")
    return _PASSWORD.sub("<password>", text)


class RedactingFilter(logging.Filter):
    """For handlers of libraries: `huggingface_hub` logs the address that did not answer, password and all."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        return True


def redact_hub_logs() -> None:
    """Puts the filter on huggingface_hub's own handlers; called before a hub is asked."""
    from huggingface_hub.utils import logging as hub_logging

    hub_logging.get_logger("huggingface_hub")  # makes its handler
    for handler in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(each, RedactingFilter) for each in handler.filters):
            handler.addFilter(RedactingFilter())


def print_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """An excepthook: the traceback as Python prints it, discreet."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
