"""Status of every artefact of a checkpoint: current, missing, out of date or pruned.

An artefact is current if the fingerprint of its latest materialisation is the one that today's inputs, settings and
code would give. `persona-assets status` prints the result, and `persona-assets run` computes what is not current.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from persona_assets.checkpoints import Identity
from persona_assets.files.digest import digest_of
from persona_assets.graph.history import fingerprint_of, latest_fingerprints
from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import light_made_from, root_inputs
from persona_assets.graph.partitions import partition_key, split_key
from persona_assets.graph.provenance import HEAVY, IMPORTED_HEAVY, IMPORTED_LIGHT, UPSTREAM, personas_of
from persona_assets.graph.resources import Gpu
from persona_assets.runs.drift_inputs import DRIFT, compare
from persona_assets.runs.heavy import current_identity
from persona_assets.runs.units import partition_inputs, parts_of, reads_replies, unit_inputs
from persona_assets.study import Study

Status = Literal["current", "missing", "out of date", "pruned"]
# Asset → partition → status, upstream first.
Statuses = dict[str, dict[str, Status]]
# Asset → partition → what it would be computed from today (`made_from`), upstream first.
ExpectedInputs = dict[str, dict[str, dict[str, Any]]]


@dataclass(frozen=True)
class Staleness:
    """Comparison of a checkpoint's artefacts with today's inputs, settings and code.

    Attributes:
        statuses: status of every artefact.
        latest: asset → partition → fingerprint of the latest materialisation.
        expected: what each artefact would be computed from; without imported assets and `checkpoint_drift`.
    """

    statuses: Statuses
    latest: Mapping[str, Mapping[str, str]]
    expected: ExpectedInputs


def staleness(
    instance: dg.DagsterInstance, defs: dg.Definitions, home: Home, study: Study, gpu: Gpu, checkpoint: str
) -> Staleness:
    """Compare every artefact of a checkpoint with what it would be computed from today.

    Raises:
        CheckpointError: the checkpoint is not registered or cannot be measured.
    """
    fingerprints = _imported_fingerprints(instance, study, checkpoint)
    expected = _expected_inputs(instance, defs, home, study, gpu, checkpoint, fingerprints)
    fingerprints |= {asset: _digests(partitions) for asset, partitions in expected.items()}
    latest = {asset: latest_fingerprints(instance, asset, list(keys)) for asset, keys in fingerprints.items()}
    statuses = {asset: _statuses(home, asset, latest[asset], keys) for asset, keys in fingerprints.items()}
    if not study.imported:
        soon = {asset: keys[checkpoint] for asset, keys in fingerprints.items() if asset not in HEAVY}
        if drift := _drift_status(instance, home, study, checkpoint, soon):
            statuses[DRIFT] = drift
    return Staleness(statuses, latest, expected)


def to_do(found: Statuses) -> set[str]:
    """Return the assets that have to be computed.

    Pruned artefacts are only recomputed if some other asset of the checkpoint has to be.
    """
    assets = {asset for asset, partitions in found.items() if {"missing", "out of date"} & set(partitions.values())}
    if assets - {DRIFT}:
        assets |= {asset for asset, partitions in found.items() if "pruned" in partitions.values()}
    return assets


def _drift_status(
    instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str, soon: Mapping[str, str]
) -> dict[str, Status]:
    """Return the status of `checkpoint_drift` once this checkpoint is current; empty below two checkpoints.

    Args:
        soon: asset → fingerprint of this checkpoint's tables once they are current.
    """
    compared = compare(instance, home, study, {checkpoint: soon})
    if len(compared.checkpoints) < 2:
        return {}
    event = instance.get_latest_materialization_event(dg.AssetKey(DRIFT))
    made = event.asset_materialization if event else None
    latest = {"": str(fingerprint_of(made))} if made else {}
    return _statuses(home, DRIFT, latest, {"": digest_of(compared.made_from(study))})


def _expected_inputs(
    instance: dg.DagsterInstance,
    defs: dg.Definitions,
    home: Home,
    study: Study,
    gpu: Gpu,
    name: str,
    imported: Mapping[str, Mapping[str, str]],
) -> ExpectedInputs:
    """Return what each asset of a checkpoint would be computed from today; imported assets are left out."""
    home.registry.get(name)
    identity = None if study.imported else current_identity(instance, home, name)
    graph = defs.resolve_asset_graph()
    expected, found = dict(imported), ExpectedInputs()
    for key in graph.toposorted_asset_keys:
        asset = key.to_user_string()
        if key not in graph.materializable_asset_keys or asset in (*imported, DRIFT):
            continue
        assets_def = defs.resolve_assets_def(key)
        loaded = _loaded_inputs(assets_def)
        if asset in HEAVY:
            assert identity is not None
            found[asset] = _heavy_inputs(study, asset, identity, gpu, name, found)
        else:
            inputs: dict[str, Any] = {each: expected[each] for each in loaded}
            inputs = inputs or root_inputs(asset, identity.record() if identity else None)
            code_version = assets_def.specs_by_key[key].code_version or ""
            found[asset] = {name: light_made_from(asset, name, code_version, inputs)}
        expected[asset] = _digests(found[asset])
    return found


def _imported_fingerprints(instance: dg.DagsterInstance, study: Study, checkpoint: str) -> dict[str, dict[str, str]]:
    """Return the fingerprints of imported artefacts; they cannot be recomputed, so the latest import is current."""
    if not study.imported:
        return {}
    keys = {asset: [partition_key(checkpoint, persona) for persona in study.personas] for asset in IMPORTED_HEAVY}
    keys |= {asset: [checkpoint] for asset in IMPORTED_LIGHT}
    return {asset: latest_fingerprints(instance, asset, partitions) for asset, partitions in keys.items()}


def _heavy_inputs(
    study: Study, asset: str, identity: Identity, gpu: Gpu, checkpoint: str, above: ExpectedInputs
) -> dict[str, dict[str, Any]]:
    """Return what each partition of a heavy asset would be made from, given the inputs of the assets upstream."""
    generated = _digests(above["generations"]) if reads_replies(study, asset) else {}
    replies = {split_key(key)[1]: fingerprint for key, fingerprint in generated.items()}
    found = {}
    for persona in personas_of(study, asset):
        key = partition_key(checkpoint, persona)
        source = above[UPSTREAM[asset]][key] if asset in UPSTREAM else None
        parts = {} if source is None else parts_of(persona, digest_of(source), source)
        units = unit_inputs(study, asset, persona, identity, gpu, parts, replies)
        found[key] = partition_inputs(study, asset, persona, units)
    return found


def _loaded_inputs(assets_def: dg.AssetsDefinition) -> list[str]:
    """Return the inputs that an asset loads, without those that it only has to run after."""
    inputs = assets_def.op.input_dict
    return [
        key.to_user_string()
        for name, key in assets_def.keys_by_input_name.items()
        if not inputs[name].dagster_type.is_nothing
    ]


def _digests(inputs: Mapping[str, Any]) -> dict[str, str]:
    return {key: digest_of(made_from) for key, made_from in inputs.items()}


def _statuses(home: Home, asset: str, latest: Mapping[str, str], expected: Mapping[str, str]) -> dict[str, Status]:
    result: dict[str, Status] = {}
    for key, fingerprint in expected.items():
        pruned = key in latest and home.store.is_pruned(asset, latest[key])
        if key not in latest or not (pruned or home.store.has(asset, latest[key])):
            result[key] = "missing"
        elif latest[key] != fingerprint:
            result[key] = "out of date"
        else:
            result[key] = "pruned" if pruned else "current"
    return result
