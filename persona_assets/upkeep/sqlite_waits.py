"""A database that is locked is waited for.

Dagster's event log waits 30 seconds for a lock of SQLite, its table of runs 5: a copy that somebody makes of the files,
or a slow disk, would fail a run that cost hours.
"""

import sqlite3
from typing import Any

from sqlalchemy import Engine, event

LOCKED_SECONDS = 60


def wait_for_locks() -> None:
    """From now on every SQLite connection that this process opens through SQLAlchemy waits that long."""
    if not event.contains(Engine, "connect", _wait):
        event.listen(Engine, "connect", _wait)


def _wait(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA busy_timeout = {LOCKED_SECONDS * 1000}")
