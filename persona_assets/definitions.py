"""What the code location serves."""

import dagster as dg

from persona_assets.assets import (
    checkpoints,
    checks,
    divergence,
    geometry,
    leakage,
    leakage_checks,
    pairs,
    personas,
    pictures,
    report,
    responses,
)
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.io_managers import ArtefactIOManager
from persona_assets.orchestration.jobs import build_jobs
from persona_assets.orchestration.loggers import terminal
from persona_assets.orchestration.partitions import STUDY
from persona_assets.orchestration.resources import Gpu
from persona_assets.orchestration.sensors import study_and_registry
from persona_assets.study import Study


def build_definitions(study: Study, home: Home) -> dg.Definitions:
    """The graph over one study and one instance's folder; leakage is in it where the study trains or imports it."""
    stations = [checkpoints, responses, divergence, geometry, pairs, pictures, report]
    if study.sources:
        stations.append(leakage)
    imported = [leakage.leakage_table] if study.leakage else []
    return dg.Definitions(
        assets=[*dg.load_assets_from_modules(stations), *imported, personas.persona_prompts],
        asset_checks=dg.load_asset_checks_from_modules([checks, *([leakage_checks] if study.sources else [])]),
        jobs=build_jobs(study),
        sensors=[study_and_registry],
        resources={
            "study": study,
            "home": home,
            "gpu": Gpu(**study.inference.model_dump()),
            "io_manager": ArtefactIOManager(home.store, study),
        },
        # Every run is one process: the model that one step loads serves the next.
        executor=dg.in_process_executor,
        loggers={"console": terminal},
    )


defs = build_definitions(STUDY, Home.of_environment())
