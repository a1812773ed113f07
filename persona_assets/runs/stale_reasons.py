"""Why an artefact is out of date: what its latest version was made from, against what it would be made from today."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from persona_assets.files.digest import digest_of
from persona_assets.graph.history import latest_fingerprints
from persona_assets.graph.home import Home
from persona_assets.runs.staleness import ExpectedInputs
from persona_assets.store.artefacts import ArtefactError

# Longer values (prompts, digests) are named and not shown.
_SHOWN = 40


def stale_reasons(instance: dg.DagsterInstance, home: Home, expected_inputs: ExpectedInputs) -> dict[str, list[str]]:
    """Asset → every difference that puts one of its partitions out of date, upstream first."""
    found: dict[str, list[str]] = {}
    for asset, partitions in expected_inputs.items():
        latest = latest_fingerprints(instance, asset, list(partitions))
        said: dict[str, None] = {}
        for partition, made_from in partitions.items():
            if partition not in latest or latest[partition] == digest_of(made_from):
                continue
            try:
                then = home.store.get(asset, latest[partition]).made_from
            except ArtefactError:
                continue  # it is missing, and that is what is said of it
            said |= dict.fromkeys(differences(then, made_from))
        if said:
            found[asset] = list(said)
    return found


def differences(then: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """`environment.torch was '2.13.0', is '2.14.0'`; of what is long only `another study.prompt`."""
    for name in {**then, **now}:
        before, after = then.get(name), now.get(name)
        if before == after:
            continue
        if not place and isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{name}.")
        elif max(len(repr(before)), len(repr(after))) <= _SHOWN:
            yield f"{place}{name} was {before!r}, is {after!r}"
        else:
            yield f"another {place}{name}"
