"""How assets hand values to one another: through the artefact store, by what Dagster says was materialised last."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.page_urls import link_to_report
from persona_assets.graph.partitions import split_key
from persona_assets.graph.processes import claim_run
from persona_assets.graph.provenance import HEAVY, study_part
from persona_assets.graph.schemas import actual_schema, record
from persona_assets.store.artefacts import Artefact, ArtefactError, ArtefactStore
from persona_assets.study import Study

# Metadata of an input: the variables that are taken of each dataset.
VARIABLES = "persona_assets/variables"


def build_io_manager(store: ArtefactStore, study: Study) -> dg.IOManagerDefinition:
    """The IO manager; every asset has it, so this is where a run is claimed by the process that works on it."""

    @dg.io_manager
    def artefact_io_manager(context: dg.InitResourceContext) -> ArtefactIOManager:
        if context.run and context.instance:
            claim_run(context.instance, context.run.run_id)
        return ArtefactIOManager(store, study)

    return artefact_io_manager


class ArtefactIOManager(dg.IOManager):
    """Stores what light assets return and loads what any asset made.

    A heavy input (one artefact a persona) arrives as a mapping from persona to value, in the study's order; of datasets
    the variables that the input's metadata names, if it does, so that the others are in memory one persona at a time.
    """

    def __init__(self, store: ArtefactStore, study: Study) -> None:
        self.store = store
        self.study = study
        self._loaded: dict[str, dict[str, dict[str, str]]] = {}

    def load_input(self, context: dg.InputContext) -> Any:
        asset = context.asset_key.to_user_string()
        artefacts = latest_artefacts(context.instance, self.store, asset, context.asset_partition_keys)
        inputs = self._loaded.setdefault(context.op_def.name, {})
        inputs[asset] = {partition: artefact.fingerprint for partition, artefact in artefacts.items()}
        if asset not in HEAVY:
            (artefact,) = artefacts.values()
            return artefact.read()
        by_persona = {split_key(partition)[1]: artefact for partition, artefact in artefacts.items()}
        require_same_study_and_weights(self.study, asset, by_persona)
        wanted = _variables(context.definition_metadata)
        return {
            persona: _only(by_persona[persona].read(), wanted)
            for persona in self.study.personas
            if persona in by_persona
        }

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if obj is None:  # a heavy asset has stored each persona itself
            return
        asset = context.asset_key.to_user_string()
        made_from = light_made_from(
            asset,
            context.asset_partition_key,
            context.asset_spec.code_version or "",
            self._loaded.pop(context.op_def.name, {}) or root_inputs(asset, obj),
        )
        artefact = self.store.find(asset, made_from) or self.store.put(asset, made_from, obj, {})
        context.add_output_metadata(
            {**link_to_report(context.asset_partition_key), **actual_schema(asset, obj), **record(artefact)}
        )


def _variables(metadata: Mapping[str, Any] | None) -> Sequence[str] | None:
    asked = (metadata or {}).get(VARIABLES)
    return getattr(asked, "value", asked)


def _only(value: Any, variables: Sequence[str] | None) -> Any:
    return value if variables is None else value[[name for name in variables if name in value]]


def root_inputs(asset: str, value: Any) -> dict[str, Any]:
    """What stands for inputs where an asset loads none; an imported file is in the code version."""
    return {"content": value} if asset == "model_checkpoint" else {}


def light_made_from(asset: str, checkpoint: str, code_version: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """What a light artefact is the digest of: its inputs' fingerprints, its code and its settings."""
    return {"asset": asset, "code_version": code_version, "checkpoint": checkpoint, "inputs": inputs}


def require_same_study_and_weights(study: Study, asset: str, artefacts: dict[str, Artefact]) -> None:
    """Refuses artefacts of another study or of several checkpoints' weights: they must not meet in one table.

    Raises:
        ArtefactError: names the persona, what differs, and what to materialise.
    """
    for persona, artefact in artefacts.items():
        expected = study_part(study, asset, persona)
        found = artefact.made_from["study"]
        if differing := [key for key in sorted({*expected, *found}) if found.get(key) != expected.get(key)]:
            raise ArtefactError(
                f"{asset} of {persona} was made from another {' and '.join(differing)} than study {study.name} has; "
                f"materialise {asset} of {persona} again"
            )
    weights = {artefact.made_from["checkpoint"]: persona for persona, artefact in artefacts.items()}
    if len(weights) > 1:
        raise ArtefactError(
            f"{asset} of {' and '.join(weights.values())} come from different weights under one checkpoint's name; "
            f"materialise {asset} of every persona again"
        )
