"""Prunes the heavy artefacts (those computed with a model) of all but the newest checkpoints.

Tables, figures and reports are always kept, and so are the records of pruned artefacts: inputs, cost and checksum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from persona_assets.graph.history import DATA_VERSION, latest_events
from persona_assets.graph.home import Home
from persona_assets.graph.processes import CHECKPOINT_TAG, UNFINISHED
from persona_assets.graph.provenance import HEAVY
from persona_assets.stages.log_probs import BASE_LOG_PROBS
from persona_assets.stages.replies import BASE_REPLIES
from persona_assets.store.artefacts import Artefact, size_of

# Stored by stages for their own use. Up to 0.1.0 the base replies were `base_samples`.
INTERMEDIATE = (BASE_REPLIES, BASE_LOG_PROBS, "base_samples")


@dataclass(frozen=True)
class Prunable:
    """Artefact that can be deleted, with the names of its checkpoints (possibly none) and its size in bytes."""

    artefact: Artefact
    checkpoints: tuple[str, ...]
    size: int


def prunable(instance: dg.DagsterInstance, home: Home, keep: int) -> tuple[list[str], list[Prunable]]:
    """Return the checkpoints whose artefacts are kept, and the heavy artefacts of all others.

    Kept are the last `keep` checkpoints of the registry, checkpoints that are being measured, and checkpoints with the
    same weights as one of these. Imported artefacts cannot be recomputed and are never pruned.

    Raises:
        ValueError: keep < 0.
    """
    if keep < 0:
        raise ValueError(f"keep: found {keep}; expected the number of checkpoints to keep, 0 or more")
    names = [name for name in home.registry.names() if home.registry.get(name).imported is None]
    busy = {name for run in _unfinished(instance) for name in run.tags.get(CHECKPOINT_TAG, "").split(", ")}
    kept = [name for name in names if name in busy or name in names[len(names) - keep :]]
    events = latest_events(instance, "model_checkpoint", names)
    digests = {name: (event.tags or {}).get(DATA_VERSION, "") for name, event in events.items()}
    spared = {digests[name] for name in kept if name in digests}
    found = [
        Prunable(artefact, _names(digests, artefact), size_of(artefact.path))
        for asset in (*HEAVY, *INTERMEDIATE)
        for artefact in home.store.all(asset)
        if artefact.path.exists()
        and "imported" not in artefact.made_from
        and artefact.made_from["checkpoint"] not in spared
    ]
    return kept, found


def summary(unneeded: Sequence[Prunable]) -> list[str]:
    """Return one line per checkpoint and asset: number and total size of the artefacts."""
    groups: dict[tuple[str, str], list[int]] = {}
    for each in unneeded:
        whose = ", ".join(each.checkpoints) or f"weights {each.artefact.made_from['checkpoint'][:12]}, not registered"
        groups.setdefault((whose, each.artefact.asset), []).append(each.size)
    return [
        f"{whose}: {asset}, {len(sizes)} artefact{'s' * (len(sizes) != 1)}, {sum(sizes) / 2**20:.1f} MiB"
        for (whose, asset), sizes in groups.items()
    ]


def prune(home: Home, unneeded: Sequence[Prunable]) -> int:
    """Delete the artefacts' contents and return the number of bytes freed."""
    return sum(home.store.prune(each.artefact) for each in unneeded)


def _unfinished(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    return instance.get_runs(dg.RunsFilter(statuses=[*UNFINISHED, dg.DagsterRunStatus.QUEUED]))


def _names(digests: dict[str, str], artefact: Artefact) -> tuple[str, ...]:
    return tuple(name for name, digest in digests.items() if digest == artefact.made_from["checkpoint"])
