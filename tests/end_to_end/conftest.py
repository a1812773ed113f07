"""A small study, measured once by the real jobs with the real embedded model in an instance of its own."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from persona_assets.definitions import build_definitions
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import HEAVY_ASSETS
from persona_assets.graph.partitions import STUDY
from persona_assets.graph.provenance import OF_SOURCES
from persona_assets.runs.run import Run
from persona_assets.study import Study

CHECKPOINT = "smollm2-135m-instruct"


def new_home(root: Path, repository: Path, model: Path) -> Home:
    """An instance's folder with the project's own dagster.yaml and the embedded model registered."""
    root.mkdir()
    shutil.copy(repository / "dagster_home" / "dagster.yaml", root)
    home = Home(root)
    home.registry.add(CHECKPOINT, {"path": str(model)})
    return home


def with_study(run: Run, study: Study) -> Run:
    """The same instance over an edited study."""
    return replace(run, study=study, defs=build_definitions(study, run.home))


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, repository: Path, embedded_directory: Path) -> Iterator[Run]:
    """Three personas × two questions × eight tokens and one source with a marker, everything materialised."""
    home = new_home(tmp_path_factory.mktemp("instance") / "home", repository, embedded_directory)
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        run = Run(instance, build_definitions(STUDY, home), home, STUDY, CHECKPOINT)
        run.prepare()
        assert run.materialise() == ["identify_checkpoint", "measure_personas", "train_markers", "compare_personas"]
        yield run


@pytest.fixture(scope="session")
def measured_tiny(tmp_path_factory: pytest.TempPathFactory, repository: Path, _tiny: Path) -> Path:
    """An instance in which the small study on a random model of three blocks is current; tests take copies."""
    root = tmp_path_factory.mktemp("tiny_instance") / "home"
    root.mkdir()
    shutil.copy(repository / "dagster_home" / "dagster.yaml", root)
    shutil.copytree(_tiny, root / "tiny")
    Home(root).registry.add("tiny", {"path": "tiny"})
    with dg.DagsterInstance.from_config(str(root)) as instance:
        run = tiny_run_of(root, instance)
        run.prepare()
        assert run.materialise() == ["identify_checkpoint", "measure_personas", "train_markers", "compare_personas"]
    return root


@pytest.fixture
def tiny_run(measured_tiny: Path, tmp_path: Path) -> Iterator[Run]:
    """A copy of that instance."""
    root = shutil.copytree(measured_tiny, tmp_path / "home")
    with dg.DagsterInstance.from_config(str(root)) as instance:
        yield tiny_run_of(root, instance)


def tiny_run_of(root: Path, instance: dg.DagsterInstance) -> Run:
    home = Home(root)
    return Run(instance, build_definitions(STUDY, home), home, STUDY, "tiny")


HEAVY_FOLDERS = (*HEAVY_ASSETS, *OF_SOURCES, "base_replies", "base_log_probs")


def heavy_files(run: Run) -> dict[str, bytes]:
    """What heavy assets stored, records aside: path below the store → bytes."""
    root = run.home.store.root
    files = [file for folder in HEAVY_FOLDERS for file in sorted((root / folder).rglob("*")) if file.is_file()]
    kept = [file for file in files if file.suffix not in (".json", ".lock") or file.name == "adapter_config.json"]
    return {str(file.relative_to(root)): file.read_bytes() for file in kept}


def emptied(run: Run) -> None:
    """Leaves an instance that has measured nothing but knows the checkpoint."""
    for folder in HEAVY_FOLDERS:
        shutil.rmtree(run.home.store.root / folder, ignore_errors=True)
