"""Detection of checkpoints that have the same weights under different names."""

import dagster as dg

from persona_assets.graph.history import DATA_VERSION, latest_events
from persona_assets.graph.home import Home


def same_as(instance: dg.DagsterInstance, home: Home, checkpoint: str, digest: str | None = None) -> str | None:
    """Return the other name under which this checkpoint's weights are measured; None if it is measured itself.

    Among names with the same weights, the first registered one that has a report is measured; if none has a report, the
    first registered one.

    Args:
        digest: digest of the checkpoint's identity, if it is not recorded yet.
    """
    names = home.registry.names()
    events = latest_events(instance, "model_checkpoint", names)
    digests = {name: (event.tags or {}).get(DATA_VERSION) for name, event in events.items()}
    if (digest := digest or digests.get(checkpoint)) is None:
        return None
    twins = [name for name in names if name == checkpoint or digests.get(name) == digest]
    reported = latest_events(instance, "report", twins)
    first = next((name for name in twins if name in reported), twins[0])
    return None if first == checkpoint else first
