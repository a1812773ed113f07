"""Fixtures for the tests of pages and examples: an instance with a tiny random model, measured by the real graph."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import dagster as dg
import pytest

from persona_assets.definitions import build_definitions
from persona_assets.graph.home import Home
from persona_assets.graph.loggers import PLAIN_LINES
from persona_assets.graph.partitions import STUDY
from persona_assets.runs.run import Run
from persona_assets.study import Study

TABLES = ("logit_js_matrix", "centroid_cosine", "leakage_table", "pair_table", "partial_correlations")


def tiny_study() -> Study:
    """Return the tests' study with few tokens, replies and resamples, at layers that the tiny model has."""
    assert STUDY.marker is not None
    recipe = STUDY.marker.model_dump(mode="json")
    recipe["training"] |= {"epochs": 1, "batch_size": 16}
    recipe["replies"] |= {"max_new_tokens": 6}
    recipe["evaluation"] |= {"samples": 2, "max_new_tokens": 4}
    few = {"permutations": 100, "resamples": 100}
    return Study.model_validate(STUDY.model_dump(mode="json") | {"layers": [0, 2], "marker": recipe, "statistics": few})


@pytest.fixture(scope="session")
def docs_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, _tiny: Path) -> Iterator[Run]:
    """Yield a run with everything from responses to tables for three personas, two questions and one source."""
    root = tmp_path_factory.mktemp("docs") / "instance"
    root.mkdir()
    shutil.copy(repository / "dagster_home" / "dagster.yaml", root)
    home, study = Home(root), tiny_study()
    home.registry.add("tiny", {"path": str(_tiny)})
    with dg.DagsterInstance.from_config(str(root)) as instance:
        run = Run(instance, build_definitions(study, home), home, study, "tiny")
        run.prepare()
        for job in ("identify_checkpoint", "measure_personas", "train_markers"):
            run.materialise_job(job)
        # Figures and the report have their own tests and would double the time.
        tables = run.defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey(table) for table in TABLES}, asset_check_selection=set()
        )
        tables.execute_in_process(instance=instance, partition_key="tiny", run_config=PLAIN_LINES)
        yield run


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """Yield an empty folder as the current directory, so that messages contain relative paths as for a reader."""
    with chdir(tmp_path):
        yield tmp_path
