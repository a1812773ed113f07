"""Reasons why artefacts are stale: differences between their recorded and their current inputs."""

from collections.abc import Iterator, Mapping
from typing import Any

from persona_assets.files.digest import digest_of
from persona_assets.graph.home import Home
from persona_assets.runs.staleness import Staleness
from persona_assets.store.artefacts import ArtefactError

# Values with more characters (prompts, digests) are named but not shown.
_MAX_SHOWN = 40


def stale_reasons(home: Home, compared: Staleness) -> dict[str, list[str]]:
    """Return the differences that make assets stale: asset → differences over all its partitions, upstream first."""
    found: dict[str, list[str]] = {}
    for asset, partitions in compared.expected.items():
        latest = compared.latest[asset]
        reasons: dict[str, None] = {}
        for partition, made_from in partitions.items():
            if partition not in latest or latest[partition] == digest_of(made_from):
                continue
            try:
                then = home.store.get(asset, latest[partition]).made_from
            except ArtefactError:
                continue  # reported as missing by `staleness`
            reasons |= dict.fromkeys(differences(then, made_from))
        if reasons:
            found[asset] = list(reasons)
    return found


def differences(then: Mapping[str, Any], now: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Yield a text for each difference: `environment.torch was '2.13.0', is '2.14.0'`, or `study.prompt changed`."""
    for name in {**then, **now}:
        before, after = then.get(name), now.get(name)
        if before == after:
            continue
        if not place and isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, f"{name}.")
        elif max(len(repr(before)), len(repr(after))) <= _MAX_SHOWN:
            yield f"{place}{name} was {before!r}, is {after!r}"
        else:
            yield f"{place}{name} changed"
