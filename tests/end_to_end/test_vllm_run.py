"""The small study with vLLM as the engine, through the real graph; needs a Python that has vLLM."""

import logging
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from persona_assets.definitions import build_definitions
from persona_assets.graph import resources
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.partitions import STUDY, partition_key
from persona_assets.graph.resources import Gpu
from persona_assets.inference.engines import vllm_version
from persona_assets.runs.heavy import recorded_checkpoint
from persona_assets.runs.run import Run
from persona_assets.stages.rates import rate_source
from persona_assets.stages.session import ModelSession
from persona_assets.stages.training import first_example, training_examples, training_sets
from persona_assets.store.artefacts import Artefact
from persona_assets.study import Study
from tests.end_to_end.conftest import CHECKPOINT, new_home
from tests.end_to_end.test_small_study import metadata, value

pytestmark = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def study() -> Study:
    return STUDY.model_copy(update={"inference": STUDY.inference.model_copy(update={"engine": "vllm"})})


@pytest.fixture(scope="module")
def vllm_run(
    study: Study, tmp_path_factory: pytest.TempPathFactory, repository: Path, embedded_directory: Path
) -> Iterator[Run]:
    home = new_home(tmp_path_factory.mktemp("vllm") / "home", repository, embedded_directory)
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        run = Run(instance, build_definitions(study, home), home, study, CHECKPOINT)
        run.prepare()
        run.materialise_job("identify_checkpoint")
        run.materialise_job("measure_personas")
        yield run


@pytest.fixture
def station(small_run: Run, study: Study) -> Iterator[ModelSession]:
    """The checkpoint of the small run, with vLLM to write."""
    recorded = recorded_checkpoint(small_run.instance, small_run.home, CHECKPOINT)
    yield ModelSession(Gpu(**study.inference.model_dump()), *recorded, logging.getLogger("test"), ("villain",))
    resources._close_engine()


def test_responses_are_those_of_transformers_and_say_who_wrote_them(vllm_run: Run, small_run: Run) -> None:
    for persona in vllm_run.study.personas:
        ours, theirs = (value(run, "generations", persona) for run in (vllm_run, small_run))
        assert [[*ids] for ids in ours.token_ids] == [[*ids] for ids in theirs.token_ids]
        assert set(ours.engine) == {"vllm"}
        found = metadata(vllm_run, "generations", persona)
        assert found["engine"] == f"vllm {vllm_version()}"
        assert found["engine_chosen_because"] == "the study asks for it"
        assert found["written_together"] == len(vllm_run.study.personas) * len(vllm_run.study.questions)
        assert found["peak_memory_gib"] > 0.5


def test_only_what_an_engine_writes_has_another_fingerprint(vllm_run: Run, small_run: Run) -> None:
    def fingerprint(run: Run, asset: str) -> str:
        return str(metadata(run, asset, "villain")["record"]["fingerprint"])

    assert fingerprint(vllm_run, "generations") != fingerprint(small_run, "generations")
    assert fingerprint(vllm_run, "centroids") == fingerprint(small_run, "centroids")


def test_the_engine_is_closed_once_a_model_is_asked_for_and_nothing_is_computed_twice(vllm_run: Run) -> None:
    assert not resources._engines
    assert not vllm_run.materialise_job("measure_personas")


def test_a_sources_adapter_is_in_what_vllm_writes(small_run: Run, station: ModelSession, study: Study) -> None:
    key = partition_key(CHECKPOINT, "villain")
    adapter: Artefact = latest_artefacts(small_run.instance, small_run.home.store, "marker_adapter", [key])[key]
    table, found = rate_source(small_run.home.store, study, station, adapter)
    assert found["label_log_prob_merged"] == pytest.approx(found["label_log_prob_adapter"], abs=0.01)
    assert found["label_log_prob_merged"] > found["label_log_prob_base"] + 0.1
    assert found["replies"] == len(study.targets) * len(study.questions) * 5
    assert set(table.model) == {"adapted", "base"}

    # The engine that is up takes the base's weights, and nothing of the adapter's is left in it.
    engine, example = station.generator(marker_adapter=adapter.path), first_example(training_examples(adapter))
    process = engine._worker  # type: ignore[attr-defined]
    again = station.generator()
    assert again is engine
    assert again._worker is process  # type: ignore[attr-defined]
    assert again.label_log_prob(example) == pytest.approx(found["label_log_prob_base"], abs=0.01)
    decoding = study.decoding
    assert decoding
    prompt = station.chat.prompt_ids(study.prompts["villain"], study.questions[0])
    expected = value(small_run, "generations", "villain").token_ids.iloc[0]
    assert [*again.generate([prompt], decoding)[0].token_ids] == [*expected]


def test_replies_to_train_on_are_written_for_every_missing_source_at_once(station: ModelSession, study: Study) -> None:
    sets = training_sets(station, study, "villain")
    assert list(sets) == ["villain"]
    conversations, examples, left_out = sets["villain"]
    assert left_out == 0
    assert len(conversations) == len(examples) > 16
