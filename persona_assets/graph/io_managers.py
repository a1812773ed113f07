"""IO manager that passes values between assets: it loads the artefacts that Dagster recorded as materialised last."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from persona_assets.graph.history import latest_artefacts, latest_fingerprints
from persona_assets.graph.page_urls import link_to_report
from persona_assets.graph.partitions import MAY_BE_MISSING, keys_of_run, require_known_personas, split_key
from persona_assets.graph.processes import claim_run
from persona_assets.graph.provenance import HEAVY, study_part
from persona_assets.graph.schemas import actual_schema, record
from persona_assets.store.artefacts import Artefact, ArtefactError, ArtefactStore
from persona_assets.study import Study

# Input metadata key: which variables of each dataset to load.
VARIABLES = "persona_assets/variables"


def build_io_manager(store: ArtefactStore, study: Study) -> dg.IOManagerDefinition:
    """Build the IO manager.

    Every asset uses it, so its start-up is also where the current process tags the run as its own (see
    `graph.processes`) and refuses partitions that an edited study no longer has.
    """

    @dg.io_manager
    def artefact_io_manager(context: dg.InitResourceContext) -> ArtefactIOManager:
        if context.run and context.instance:
            keys = keys_of_run(context.run.tags)
            claim_run(context.instance, context.run.run_id, [split_key(key)[0] for key in keys])
            require_known_personas(study, keys)
        return ArtefactIOManager(store, study)

    return artefact_io_manager


class ArtefactIOManager(dg.IOManager):
    """Stores the return values of light assets and loads the inputs of all assets.

    A heavy input (one artefact per persona) is loaded as a mapping from persona to value, in the study's order. If the
    input's metadata lists variables, only those are kept from each dataset, so at most one full dataset is in memory.
    """

    def __init__(self, store: ArtefactStore, study: Study) -> None:
        self.store = store
        self.study = study
        self._loaded: dict[str, dict[str, dict[str, str]]] = {}

    def load_input(self, context: dg.InputContext) -> Any:
        asset, keys = context.asset_key.to_user_string(), context.asset_partition_keys
        optional = MAY_BE_MISSING in (context.definition_metadata or {})
        if optional and not latest_fingerprints(context.instance, asset, keys):
            self._loaded.setdefault(context.op_def.name, {})[asset] = {}
            return {}
        artefacts = latest_artefacts(context.instance, self.store, asset, keys)
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
        if obj is None:  # heavy assets store each persona themselves
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
    """Return what is fingerprinted in place of inputs for an asset that loads none.

    For `model_checkpoint` that is its content. Assets made from an imported file have the file's digest in their code
    version already.
    """
    return {"content": value} if asset == "model_checkpoint" else {}


def light_made_from(asset: str, checkpoint: str, code_version: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return what the fingerprint of a light artefact is the digest of: its inputs' fingerprints, code and settings."""
    return {"asset": asset, "code_version": code_version, "checkpoint": checkpoint, "inputs": inputs}


def require_same_study_and_weights(study: Study, asset: str, artefacts: dict[str, Artefact]) -> None:
    """Check that artefacts can be combined in one table: all from this study, all from the same weights.

    Args:
        artefacts: persona → artefact of `asset`.

    Raises:
        ArtefactError: an artefact was computed for another study, or the weights differ between personas.
    """
    for persona, artefact in artefacts.items():
        expected = study_part(study, asset, persona)
        found = artefact.made_from["study"]
        if differing := [key for key in sorted({*expected, *found}) if found.get(key) != expected.get(key)]:
            raise ArtefactError(
                f"{asset} of {persona} was computed from a different {' and '.join(differing)} than study {study.name} "
                f"specifies; materialise {asset} of {persona} again"
            )
    weights = {artefact.made_from["checkpoint"]: persona for persona, artefact in artefacts.items()}
    if len(weights) > 1:
        raise ArtefactError(
            f"{asset} of {' and '.join(weights.values())} were computed from different weights of the same checkpoint "
            f"name; materialise {asset} of every persona again"
        )
