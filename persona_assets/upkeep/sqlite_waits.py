"""Raises SQLite's lock timeout.

Dagster waits 30 seconds for a locked event log and 5 for a locked run table, so copying the database files or a slow
disk could fail a run of many hours.
"""

import sqlite3
from typing import Any

from sqlalchemy import Engine, event

LOCKED_SECONDS = 60


def wait_for_locks() -> None:
    """Set the lock timeout of all SQLite connections that this process opens through SQLAlchemy from now on."""
    if not event.contains(Engine, "connect", _set_timeout):
        event.listen(Engine, "connect", _set_timeout)


def _set_timeout(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute(f"PRAGMA busy_timeout = {LOCKED_SECONDS * 1000}")
