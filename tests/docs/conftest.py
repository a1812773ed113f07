"""What the pages and examples are held against: an instance over a tiny random model, measured by the real graph."""

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
    """The tests' study with few tokens, replies and resamples, at layers that the tiny model has."""
    assert STUDY.marker is not None
    recipe = STUDY.marker.model_dump(mode="json")
    recipe["training"] |= {"epochs": 1, "batch_size": 16}
    recipe["replies"] |= {"max_new_tokens": 6}
    recipe["evaluation"] |= {"samples": 2, "max_new_tokens": 4}
    few = {"permutations": 100, "resamples": 100}
    return Study.model_validate(STUDY.model_dump(mode="json") | {"layers": [0, 2], "marker": recipe, "statistics": few})


@pytest.fixture(scope="session")
def docs_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, _tiny: Path) -> Iterator[Run]:
    """Responses to tables of three personas × two questions and a source, in an instance whose folder is `instance`."""
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
        # Figures and the report have tests of their own and take as long as all of this.
        tables = run.defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey(table) for table in TABLES}, asset_check_selection=set()
        )
        tables.execute_in_process(instance=instance, partition_key="tiny", run_config=PLAIN_LINES)
        yield run


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is the current one, so that relative paths in messages are what a reader sees."""
    with chdir(tmp_path):
        yield tmp_path
