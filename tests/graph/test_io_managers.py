"""Inputs of assets: artefacts that do not belong together are rejected, and the latest materialisation is used."""

import dagster as dg
import pandas as pd
import pytest

from persona_assets.graph.history import FINGERPRINT, latest_artefacts, latest_fingerprints
from persona_assets.graph.io_managers import require_same_study_and_weights
from persona_assets.graph.provenance import study_part
from persona_assets.store.artefacts import ArtefactError, ArtefactStore
from persona_assets.study import Persona
from persona_assets.study.files import load_study

STUDY = load_study()


def stored(store, persona, study=STUDY, checkpoint="weights-1"):
    made_from = {"study": study_part(study, "generations", persona), "checkpoint": checkpoint}
    return store.put("generations", made_from, pd.DataFrame({"text": [persona]}), {})


def test_an_artefact_of_a_different_prompt_is_rejected_by_name(tmp_path):
    other = STUDY.model_copy(update={"personas": STUDY.personas | {"villain": Persona(prompt="You are cruel.")}})
    artefacts = {"villain": stored(ArtefactStore(tmp_path), "villain", study=other)}
    with pytest.raises(ArtefactError, match=r"generations of villain was computed from a different prompt .* again"):
        require_same_study_and_weights(STUDY, "generations", artefacts)


def test_artefacts_of_different_weights_under_one_name_are_rejected(tmp_path):
    store = ArtefactStore(tmp_path)
    artefacts = {
        "villain": stored(store, "villain", checkpoint="weights-1"),
        "comedian": stored(store, "comedian", checkpoint="weights-2"),
    }
    with pytest.raises(ArtefactError, match="different weights"):
        require_same_study_and_weights(STUDY, "generations", artefacts)


def test_artefacts_of_this_study_and_one_checkpoint_are_accepted(tmp_path):
    store = ArtefactStore(tmp_path)
    require_same_study_and_weights(STUDY, "generations", {name: stored(store, name) for name in STUDY.personas})


def test_the_error_names_a_partition_that_was_never_materialised(tmp_path):
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(ArtefactError, match=r"generations is not materialised for c\|villain; materialise generations"),
    ):
        latest_artefacts(instance, ArtefactStore(tmp_path), "generations", ["c|villain"])


def test_the_latest_of_many_materialisations_is_used():
    with dg.DagsterInstance.ephemeral() as instance:
        for turn in range(60):
            for partition in ("c|villain", "c|comedian"):
                if partition == "c|comedian" and turn:
                    continue
                event = dg.AssetMaterialization("generations", partition=partition, metadata={FINGERPRINT: f"f{turn}"})
                instance.report_runless_asset_event(event)
        found = latest_fingerprints(instance, "generations", ["c|villain", "c|comedian", "c|nobody"])
    assert found == {"c|villain": "f59", "c|comedian": "f0"}
