"""Finds and repairs inconsistencies between the artefact store and Dagster's event log, damaged files and dead runs.

Events are never created by hand: a normal run records artefacts that have no event, and recomputes missing artefacts.
"""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg

from persona_assets.graph.history import fingerprint_of
from persona_assets.graph.home import Home
from persona_assets.graph.processes import dead_runs, release_dead_runs
from persona_assets.store.artefacts import ArtefactError

Kind = Literal["artefact without event", "event without artefact", "damaged", "left over", "dead run"]
# Partial files unchanged for this many seconds were left by a killed process; newer ones may still be written.
_ABANDONED = 3600.0
_BATCH = 500


@dataclass(frozen=True)
class Finding:
    """One problem.

    Attributes:
        where: the asset and partition, or the run.
        what: description of the problem.
        mend: description of the repair.
        path: the file to move or delete, if the repair does that.
    """

    kind: Kind
    where: str
    what: str
    mend: str
    path: Path | None = None


def examine(instance: dg.DagsterInstance, home: Home, assets: list[str]) -> list[Finding]:
    """Return all problems of an instance; reads every artefact in full and changes nothing.

    Args:
        assets: names of the graph's assets.
    """
    return [
        *_dead(instance),
        *_left_over(home),
        *(finding for asset in assets for finding in _of_asset(instance, home, asset)),
    ]


def mend(instance: dg.DagsterInstance, home: Home, findings: list[Finding]) -> None:
    """Fail dead runs, delete leftover files and move damaged ones away; a run afterwards does the rest."""
    if any(finding.kind == "dead run" for finding in findings):
        release_dead_runs(instance)
    for finding in findings:
        if finding.path is None:
            continue
        if finding.kind == "left over":
            shutil.rmtree(finding.path) if finding.path.is_dir() else finding.path.unlink(missing_ok=True)
        elif finding.kind == "damaged":
            home.store.set_aside(finding.path)


def _of_asset(instance: dg.DagsterInstance, home: Home, asset: str) -> Iterator[Finding]:
    events = _events(instance, asset)
    latest = dict(reversed(events))  # events are newest first, so the newest is set last
    recorded = {fingerprint for _, fingerprint in events}
    stored = {}
    for record in sorted((home.store.root / asset).glob("*.json")):
        if record.name.endswith(".value.json"):
            continue
        try:
            artefact = home.store.get(asset, record.stem)
        except ArtefactError as error:
            yield Finding("damaged", asset, str(error), "move it away; run again to recompute it", record)
            continue
        stored[artefact.fingerprint] = artefact
        if artefact.pruned:
            continue
        if not artefact.intact():
            what = f"{artefact.path.name}: its SHA-256 is not the recorded one"
            yield Finding("damaged", asset, what, "move it away; run again to recompute it", record)
        elif artefact.fingerprint not in recorded:
            what = f"{artefact.path.name} is stored, but no event refers to it"
            yield Finding("artefact without event", asset, what, "run again to record it")
    for partition, fingerprint in latest.items():
        if fingerprint not in stored:
            what = f"the latest event refers to {fingerprint[:12]}…, which is not in the store"
            yield Finding(
                "event without artefact", f"{asset} {partition or ''}".strip(), what, "run again to recompute it"
            )


def _events(instance: dg.DagsterInstance, asset: str) -> list[tuple[str | None, str]]:
    """Return partition and fingerprint of every materialisation, newest first."""
    found: list[tuple[str | None, str]] = []
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(dg.AssetKey(asset), limit=_BATCH, cursor=cursor)
        for record in page.records:
            event = record.asset_materialization
            if event and (fingerprint := fingerprint_of(event)):
                found.append((event.partition, fingerprint))
        if not page.has_more:
            return found
        cursor = page.cursor


def _left_over(home: Home) -> Iterator[Finding]:
    for path in sorted(home.store.root.glob("*/.*")):
        # Names of `atomic_write`.
        if path.suffix in (".partial", ".replaced") and time.time() - path.stat().st_mtime > _ABANDONED:
            yield Finding(
                "left over", path.parent.name, f"{path.name}: partly written by a killed process", "delete it", path
            )


def _dead(instance: dg.DagsterInstance) -> Iterator[Finding]:
    for run in dead_runs(instance):
        yield Finding(
            "dead run", run.run_id, f"{run.job_name} is {run.status.value}, but its process is gone", "fail it"
        )
