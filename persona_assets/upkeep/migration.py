"""Migrates databases of older Dagster versions when an instance is opened."""

from collections.abc import Callable

import dagster as dg
from alembic.util import CommandError

from persona_assets.store.instance import InstanceError


def migrate(instance: dg.DagsterInstance, say: Callable[[str], None]) -> None:
    """Migrate the databases if their schema is not that of the installed Dagster version.

    Raises:
        InstanceError: the databases were written by a newer Dagster version.
    """
    storages = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    revisions = [storage.alembic_version() for storage in storages if storage is not None]
    other = {found for found, expected in filter(None, revisions) if found != expected}
    if not other:
        return
    say(f"this instance's databases were written by another Dagster version; migrating them to {dg.__version__}")
    try:
        instance.upgrade()
    except CommandError as error:
        raise InstanceError(
            f"{instance.root_directory}: the databases were written by a newer Dagster version "
            f"(schema revision {', '.join(map(str, other))}); found Dagster {dg.__version__}; "
            "use the version of persona_assets that wrote them, or a later one"
        ) from error
