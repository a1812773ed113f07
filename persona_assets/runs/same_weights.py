"""Which checkpoint has the same weights under another name."""

import dagster as dg

from persona_assets.graph.history import DATA_VERSION, latest_events
from persona_assets.graph.home import Home


def same_as(instance: dg.DagsterInstance, home: Home, checkpoint: str, digest: str | None = None) -> str | None:
    """The first registered checkpoint with the identity of this one, if it stands for both: never itself.

    Of several names the one that has a report stands for all, and of several with one, or none, the first registered.

    Args:
        digest: the checkpoint's identity, if it is not recorded yet.
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
