"""Dagster instance folder: creation with the project's settings, the lock for opening it, database errors."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from persona_assets.files.atomic import atomic_write
from persona_assets.store.locks import locked

# The repository has the same file as `dagster_home/dagster.yaml`; a test checks that they are equal.
SETTINGS = Path(__file__).parents[1] / "dagster.yaml"


class InstanceError(RuntimeError):
    """This version cannot open the instance; the message says why and what to do."""


def make_home(home: Path) -> None:
    """Create the folder and, if it has no `dagster.yaml`, copy the project's settings into it.

    Without these settings Dagster sends usage data, and several runs load models on the same GPU.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not any((home / name).exists() for name in ("dagster.yaml", "dagster.yml")):
        with atomic_write(home / "dagster.yaml") as partial:
            partial.write_bytes(SETTINGS.read_bytes())


def instance_lock(home: Path, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Lock the folder while an instance is opened, so that tables are created and models downloaded only once.

    Dagster takes no lock itself: if two processes open a new instance at the same time, one of them fails.
    """
    return locked(home / ".claims", ["opening"], lambda _: say("another process is opening this instance; waiting"))


def explain_database_error(error: BaseException) -> str | None:
    """Return a message if the instance's database failed (locked, full, unreachable); None for any other error."""
    while error.__cause__ is not None:
        error = error.__cause__
    if type(error).__name__ != "OperationalError":  # of sqlite3 or psycopg2; comparing the name avoids importing them
        return None
    return (
        f"DatabaseError: the instance's database failed: {str(error).splitlines()[0]}; "
        "finished results are stored: run the same command again when the database is available"
    )
