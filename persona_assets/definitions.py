"""What the code location serves."""

import dagster as dg

from persona_assets.assets import (
    checkpoints,
    checks,
    divergence,
    geometry,
    imported,
    leakage,
    leakage_checks,
    pairs,
    personas,
    pictures,
    report,
    responses,
    statistics,
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
    """The graph over one study and one instance's folder.

    Leakage and its statistics are in it where the study trains a marker or imports counts; where the study came with a
    published run, files stand in for everything that takes a model.
    """
    stations = [checkpoints, responses, divergence, geometry]
    measured = (
        [*imported.IMPORTED, divergence.logit_js_matrix] if study.imported else dg.load_assets_from_modules(stations)
    )
    markers = [leakage.marker_adapter, leakage.marker_rates] if study.sources else []
    outcome = [leakage.leakage_table, statistics.partial_correlations] if study.has_leakage else []
    tables = [pairs.pair_table, pictures.figures, report.report]
    tests = [checks, *([leakage_checks] if study.sources else [])]
    return dg.Definitions(
        assets=[personas.persona_prompts, *measured, *markers, *outcome, *tables],
        asset_checks=[checks.js_is_a_divergence] if study.imported else dg.load_asset_checks_from_modules(tests),
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
