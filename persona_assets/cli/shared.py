"""Helpers of all commands: common options, the instance's registries, and opening a run."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from persona_assets.checkpoints import DigestCache
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.watched import Watched
from persona_assets.store.instance import instance_lock, make_home
from persona_assets.study import Study
from persona_assets.study.files import ENVIRONMENT_VARIABLE, load_study, study_path

StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study",
        help="YAML file, shipped study (embedded, published) or name of an imported run. "
        "Default: PERSONA_ASSETS_STUDY, then embedded.",
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        help="Registered checkpoint. Default: the imported run if the study is imported, else the embedded model, "
        "which is downloaded if necessary."
    ),
]
EMBEDDED = "smollm2-135m-instruct"


def absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path is not None else None


def open_registry() -> Registry:
    return Registry(Path(os.environ["DAGSTER_HOME"]) / "checkpoints.yaml")


def open_watched() -> Watched:
    return Watched(Path(os.environ["DAGSTER_HOME"]) / "watched.yaml")


def digests() -> DigestCache:
    return DigestCache(Path(os.environ["DAGSTER_HOME"]) / "weights_digests.json")


def choose_study(study: str | None) -> Study:
    """Select the study through the environment, which passes it to the processes that Dagster starts."""
    if study:
        os.environ[ENVIRONMENT_VARIABLE] = str(study_path(study).absolute())
    return load_study()


def open_instance() -> Any:
    """Open the Dagster instance; create it with the project's settings if it does not exist."""
    import dagster as dg

    from persona_assets.upkeep.migration import migrate

    home = Path(os.environ["DAGSTER_HOME"])
    with instance_lock(home, print):
        make_home(home)
        instance = dg.DagsterInstance.get()
        migrate(instance, print)
        return instance


def open_run(study: str | None, checkpoint: str | None, prepare: bool = True) -> Any:
    """Open the instance with the code location loaded; imports happen here to keep `--help` fast."""
    choose_study(study)
    from persona_assets.definitions import defs
    from persona_assets.graph.home import Home
    from persona_assets.graph.partitions import STUDY
    from persona_assets.inference.embedded_model import ensure_embedded_model
    from persona_assets.runs.run import Run

    home = Home.of_environment()
    checkpoint = checkpoint or (STUDY.name if STUDY.imported else EMBEDDED)
    with instance_lock(home.root, print):
        if checkpoint == EMBEDDED and EMBEDDED not in home.registry.names():
            directory = ensure_embedded_model(home.models)
            home.registry.add(EMBEDDED, {"path": str(directory.relative_to(home.root))})
        home.registry.get(checkpoint)
        session = Run(open_instance(), defs, home, STUDY, checkpoint)
        if prepare:
            session.prepare()
    return session
