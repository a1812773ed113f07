"""What a heavy asset's artefacts are made from, by unit: a persona, or a source with one of its training seeds.

Each unit is stored as an artefact of its own. If a persona has several units, its partition is one more artefact that
combines them: their tables, or for adapters a list of where the weights are.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persona_assets.checkpoints import Identity
from persona_assets.checkpoints.linear_layers import USUAL_LAYERS, trained_modules
from persona_assets.files.digest import digest_of
from persona_assets.graph.parquet import from_parquet, to_parquet
from persona_assets.graph.provenance import (
    CODE_VERSIONS,
    OF_SOURCES,
    recipe_of,
    study_of_unit,
    study_part,
    units_of,
)
from persona_assets.graph.resources import Gpu
from persona_assets.store.artefacts import Artefact, ArtefactStore, Value
from persona_assets.study import Study

MadeFrom = dict[str, Any]
# File of a combined adapter that says where each seed's weights are: seed → fingerprint of the artefact.
WEIGHTS = "seeds.json"


def unit_inputs(
    study: Study,
    asset: str,
    persona: str,
    identity: Identity,
    gpu: Gpu,
    upstream: Mapping[str, str],
    replies: Mapping[str, str],
) -> dict[str, MadeFrom]:
    """Return what each unit of a persona is made from; a fingerprint is its digest.

    Args:
        upstream: unit → fingerprint of its upstream artefact, for assets that have one.
        replies: persona → fingerprint of its `generations`, for assets that read those of every target.
    """
    found = {}
    for unit in units_of(study, asset, persona):
        alone, _ = study_of_unit(study, asset, unit)
        found[unit] = {
            "asset": asset,
            "code": CODE_VERSIONS[asset],
            "checkpoint": identity.digest,
            "study": study_part(alone, asset, persona),
            "environment": gpu.environment(asset, identity),
            "upstream": upstream.get(unit),
            **({"replies": {name: replies.get(name) for name in study.targets}} if reads_replies(study, asset) else {}),
            **(_trained_modules(study, identity) if asset in OF_SOURCES else {}),
        }
    return found


def partition_inputs(study: Study, asset: str, persona: str, units: Mapping[str, MadeFrom]) -> MadeFrom:
    """Return what a persona's artefact is made from: its only unit's inputs, or its units."""
    first = next(iter(units.values()))
    if len(units) == 1:
        return first
    parts = {unit: digest_of(made_from) for unit, made_from in units.items()}
    return {**first, "study": study_part(study, asset, persona), "upstream": None, "parts": parts}


def parts_of(persona: str, fingerprint: str, made_from: Mapping[str, Any]) -> dict[str, str]:
    """Return unit → fingerprint of a persona's artefact."""
    return dict(made_from.get("parts") or {persona: fingerprint})


def reads_replies(study: Study, asset: str) -> bool:
    """Return whether an asset reads the stored responses of every target."""
    return asset == "marker_log_probs" and not recipe_of(study).base_samples


def combined(
    store: ArtefactStore, study: Study, asset: str, made_from: MadeFrom, units: Mapping[str, Artefact]
) -> Artefact:
    """Return a persona's artefact: that of its only unit, or a stored combination of them."""
    if len(units) == 1:
        return next(iter(units.values()))
    if (found := store.find(asset, made_from)) is not None:
        return found
    seeds = recipe_of(study).training.seeds
    values = {seed: artefact.read() for seed, artefact in zip(seeds, units.values(), strict=True)}
    if asset != "marker_adapter":
        return store.put(asset, made_from, _tables(values), _costs(seeds, list(units.values())))
    files: dict[str, bytes] = {
        name: to_parquet(_tables({seed: from_parquet(value[name]) for seed, value in values.items()}))
        for name in next(iter(values.values()))
        if name.endswith(".parquet")
    }
    where = {str(seed): artefact.fingerprint for seed, artefact in zip(seeds, units.values(), strict=True)}
    value: Value = {**files, WEIGHTS: json.dumps(where, indent=1).encode()}
    return store.put(asset, made_from, value, _costs(seeds, list(units.values())))


def _tables(by_seed: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(seed=seed) for seed, table in by_seed.items()], ignore_index=True)


def _costs(seeds: Sequence[int], artefacts: Sequence[Artefact]) -> dict[str, Any]:
    """Return the cost of all seeds together, and that of each."""
    costs = [artefact.measured for artefact in artefacts]
    tokens, seconds = (sum(cost[name] for cost in costs) for name in ("tokens", "seconds"))
    return {
        **costs[0],
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if seconds else 0.0,
        "by_seed": {str(seed): cost for seed, cost in zip(seeds, costs, strict=True)},
    }


def _trained_modules(study: Study, identity: Identity) -> MadeFrom:
    """Return the modules that a marker is trained on if they are not simply those of the recipe that exist."""
    wanted = recipe_of(study).lora.modules
    linear = identity.linear_layers.split(", ") if identity.linear_layers else sorted(USUAL_LAYERS)
    names, unmatched = trained_modules(wanted, linear)
    same = not unmatched or set(names) == set(wanted) - set(unmatched)
    return {} if same else {"trained_modules": names}
