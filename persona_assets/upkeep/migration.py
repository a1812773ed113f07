"""Databases that an older Dagster made are brought up to this one's when an instance is opened."""

from collections.abc import Callable

import dagster as dg
from alembic.util import CommandError

from persona_assets.store.instance import InstanceError


def migrate(instance: dg.DagsterInstance, say: Callable[[str], None]) -> None:
    """Migrates what has not this Dagster's schema, and says so; does nothing where everything has it.

    Raises:
        InstanceError: a newer Dagster was here.
    """
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    revisions = [storage.alembic_version() for storage in storages if storage is not None]
    other = {found for found, expected in filter(None, revisions) if found != expected}
    if not other:
        return
    say(f"this instance's databases are of another Dagster; migrating them to {dg.__version__}")
    try:
        instance.upgrade()
    except CommandError as error:
        raise InstanceError(
            f"{instance.root_directory}: the databases are of a newer Dagster (revision {', '.join(map(str, other))}); "
            f"found Dagster {dg.__version__}; use the version of this project that wrote them, or a later one"
        ) from error
