"""Dagster definitions of the code location: assets, checks, jobs, sensors, schedules and resources."""

import dagster as dg

from persona_assets.assets import (
    checkpoint_checks,
    checkpoints,
    checks,
    divergence,
    drift,
    figures,
    geometry,
    imported,
    leakage,
    leakage_checks,
    pairs,
    personas,
    report,
    responses,
    statistics,
)
from persona_assets.assets.checkpoint_checks import build_report_check, build_study_checks
from persona_assets.automation.notifying import build_notifiers
from persona_assets.automation.registering import build_register_job
from persona_assets.automation.schedules import nightly
from persona_assets.automation.sensors import dead_runs, new_checkpoints, study_and_registry
from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import build_io_manager
from persona_assets.graph.jobs import build_jobs, light_assets
from persona_assets.graph.loggers import terminal
from persona_assets.graph.partitions import STUDY
from persona_assets.graph.provenance import of_sources
from persona_assets.graph.resources import Gpu
from persona_assets.runs.measure_job import build_measure_job
from persona_assets.study import Study
from persona_assets.upkeep.sqlite_waits import wait_for_locks


def build_definitions(study: Study, home: Home) -> dg.Definitions:
    """Build the definitions for one study and one instance.

    Leakage and its statistics are only included if the study trains a marker or imports counts. For a study that
    imports a published run, assets that need a model are external and read from files.
    """
    by_model = [checkpoints.model_checkpoint, responses.generations, divergence.logit_js]
    by_model += [geometry.centroids, geometry.centroid_cosine]
    measured = [*(imported.IMPORTED if study.imported else by_model), divergence.logit_js_matrix]
    markers = [getattr(leakage, asset) for asset in of_sources(study)]
    outcome = [leakage.leakage_table, statistics.partial_correlations] if study.has_leakage else []
    tables = [pairs.pair_table, figures.figures, report.report]
    compared = [] if study.imported else [drift.checkpoint_drift]
    of_leakage = {*of_sources(study), "leakage_table"} if study.sources else set()
    every_check = [*checks.CHECKS, *checkpoint_checks.CHECKS]
    every_check += [check for check in leakage_checks.CHECKS if checked_asset(check) in of_leakage]
    every_check.append(build_report_check(lambda: defs))
    every_check += build_study_checks(light_assets(study))
    measure = build_measure_job(study, home, lambda: defs)
    automation = [new_checkpoints, *build_notifiers(measure)]
    defs = dg.Definitions(
        assets=[personas.persona_prompts, *measured, *markers, *outcome, *tables, *compared],
        asset_checks=[checks.js_is_a_divergence] if study.imported else every_check,
        jobs=[*build_jobs(study), *([] if study.imported else [measure, build_register_job(home)])],
        sensors=[study_and_registry, dead_runs, *([] if study.imported else automation)],
        schedules=[] if study.imported else [nightly],
        resources={
            "study": study,
            "home": home,
            "gpu": Gpu(**study.inference.model_dump()),
            "io_manager": build_io_manager(home.store, study),
        },
        # One process per run, so that consecutive steps share the loaded model.
        executor=dg.in_process_executor,
        loggers={"console": terminal},
    )
    return defs


def checked_asset(check: dg.AssetChecksDefinition) -> str:
    """Return the asset that a check is about."""
    (key,) = check.check_keys
    return key.asset_key.to_user_string()


wait_for_locks()
defs = build_definitions(STUDY, Home.of_environment())
