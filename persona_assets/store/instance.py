"""The folder of a Dagster instance, and what a new one begins with."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from persona_assets.files.atomic import atomic_write
from persona_assets.store.locks import locked

# Also `dagster_home/dagster.yaml` of the repository; a test holds the two equal.
SETTINGS = Path(__file__).parents[1] / "dagster.yaml"


class InstanceError(RuntimeError):
    """An instance that this version cannot open; says why and what to do."""


def make_home(home: Path) -> None:
    """Makes the folder and, where it has no settings of its own, gives it the project's.

    Without them Dagster would send usage data, and several models would share a card.
    """
    home.mkdir(parents=True, exist_ok=True)
    if not any((home / name).exists() for name in ("dagster.yaml", "dagster.yml")):
        with atomic_write(home / "dagster.yaml") as partial:
            partial.write_bytes(SETTINGS.read_bytes())


def instance_lock(home: Path, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Holds the folder while an instance is opened: its tables are made and what a new one lacks is fetched once.

    Dagster takes no lock there: of two processes that open a new instance at once one fails.
    """
    return locked(home / ".claims", ["opening"], lambda _: say("another process is opening this instance; waiting"))


def explain_database_error(error: BaseException) -> str | None:
    """What to say where the database of an instance is what failed (locked, full, not reached); None elsewhere."""
    while error.__cause__ is not None:
        error = error.__cause__
    if type(error).__name__ != "OperationalError":  # sqlite3's or psycopg2's, neither of which need be imported here
        return None
    return (
        f"DatabaseError: the instance's database failed: {str(error).splitlines()[0]}; "
        "what was finished is stored: give the same command again when the database answers"
    )
