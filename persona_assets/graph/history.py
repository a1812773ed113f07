"""Look-ups of the latest materialisations in Dagster's event log: partition → event, fingerprint or artefact."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dagster as dg

from persona_assets.store.artefacts import Artefact, ArtefactError, ArtefactStore

# Metadata keys that link an event to its artefact: the full record, or only the fingerprint.
RECORD, FINGERPRINT = "record", "fingerprint"
DATA_VERSION = "dagster/data_version"


def latest_events(
    instance: dg.DagsterInstance,
    asset: str,
    partitions: Sequence[str],
    counts: Callable[[dg.AssetMaterialization], bool] = lambda _: True,
) -> dict[str, dg.AssetMaterialization]:
    """Return the latest materialisation of each partition; partitions without one are left out.

    Args:
        counts: filter; events for which it returns False are ignored.
    """
    found: dict[str, dg.AssetMaterialization] = {}
    wanted = set(partitions)
    cursor: str | None = None
    while len(found) < len(wanted):
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=sorted(wanted - set(found))),
            limit=max(50, 2 * len(wanted)),
            cursor=cursor,
        )
        for record in records.records:  # newest first
            event = record.asset_materialization
            if event and event.partition in wanted and event.partition not in found and counts(event):
                found[event.partition] = event
        if not records.has_more:
            break
        cursor = records.cursor
    return found


def fingerprint_of(event: dg.AssetMaterialization) -> str | None:
    """Return the fingerprint of the artefact that an event recorded; None if the event has none."""
    if RECORD in event.metadata:
        record: Any = event.metadata[RECORD].value
        return str(record[FINGERPRINT])
    return str(event.metadata[FINGERPRINT].value) if FINGERPRINT in event.metadata else None


def latest_fingerprints(instance: dg.DagsterInstance, asset: str, partitions: Sequence[str]) -> dict[str, str]:
    """Return the fingerprint of each partition's latest materialisation; partitions without one are left out."""
    events = latest_events(instance, asset, partitions, lambda event: fingerprint_of(event) is not None)
    return {partition: str(fingerprint_of(event)) for partition, event in events.items()}


def latest_artefacts(
    instance: dg.DagsterInstance, store: ArtefactStore, asset: str, partitions: Iterable[str]
) -> dict[str, Artefact]:
    """Return the artefact of each partition's latest materialisation.

    Raises:
        ArtefactError: a partition was never materialised, or its artefact is missing from the store.
    """
    wanted = list(partitions)
    found = latest_fingerprints(instance, asset, wanted)
    if missing := [partition for partition in wanted if partition not in found]:
        raise ArtefactError(
            f"{asset} is not materialised for {', '.join(missing[:5])}"
            + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            + f"; materialise {asset} first"
            + (" (if the page does not list this persona, reload the definitions)" if "|" in missing[0] else "")
        )
    return {partition: store.get(asset, found[partition]) for partition in wanted}
