"""The small study with vLLM as the engine, through the real graph; needs a Python that has vLLM."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from persona_assets.definitions import build_definitions
from persona_assets.inference.engines import vllm_version
from persona_assets.orchestration import resources
from persona_assets.orchestration.partitions import STUDY
from persona_assets.orchestration.running import Run
from tests.end_to_end.conftest import CHECKPOINT, new_home
from tests.end_to_end.test_small_study import metadata, value

pytestmark = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")


@pytest.fixture(scope="module")
def vllm_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, embedded_directory: Path) -> Iterator[Run]:
    study = STUDY.model_copy(update={"inference": STUDY.inference.model_copy(update={"engine": "vllm"})})
    home = new_home(tmp_path_factory.mktemp("vllm") / "home", repository, embedded_directory)
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        run = Run(instance, build_definitions(study, home), home, study, CHECKPOINT)
        run.prepare()
        assert run.materialise() == ["identify_checkpoint", "measure_personas", "train_markers", "compare_personas"]
        yield run
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
        return metadata(run, asset, "villain")["fingerprint"]

    assert fingerprint(vllm_run, "generations") != fingerprint(small_run, "generations")
    assert fingerprint(vllm_run, "centroids") == fingerprint(small_run, "centroids")


def test_a_sources_adapter_is_in_what_vllm_writes(vllm_run: Run) -> None:
    found = metadata(vllm_run, "marker_rates", "villain")
    assert found["label_log_prob_merged"] == pytest.approx(found["label_log_prob_adapter"], abs=0.01)
    assert found["label_log_prob_merged"] > found["label_log_prob_base"] + 0.1
    assert set(value(vllm_run, "marker_rates", "villain").model) == {"adapted", "base"}


def test_everything_is_current_afterwards(vllm_run: Run) -> None:
    assert vllm_run.materialise() == []
