"""Jobs of the asset graph. All assets of a job must share one partitioning, so the graph is split into several jobs."""

from typing import Any

import dagster as dg

from persona_assets.graph.provenance import OF_GENERATORS, of_sources
from persona_assets.study import Study

HEAVY_ASSETS = ("generations", "logit_js", "centroids")
LIGHT_ASSETS = (
    "logit_js_matrix",
    "centroid_cosine",
    "leakage_table",
    "pair_table",
    "partial_correlations",
    "figures",
    "report",
)
COMPARE_CHECKPOINTS = "compare_checkpoints"
# Check of every table; the sensor `study_and_registry` reports it, so that the jobs need not run it.
STUDY_CHECK = "study_is_unchanged"
# Checks that the jobs skip because they are slow (one re-reads all weights); they run from the web page and at night.
ON_DEMAND = (
    ("model_checkpoint", "weights_are_unchanged"),
    ("model_checkpoint", "measured_without_failure"),
    ("model_checkpoint", "computed_as_its_own_forward_pass"),
    ("report", "report_is_current"),
)
# Tag of runs that load a model; dagster.yaml limits them to one at a time.
CARD = {"persona_assets/card": "yes"}


def build_jobs(study: Study) -> list[Any]:
    """Build the jobs of a study, upstream first. Marker training is only included if the study has sources."""
    light = light_assets(study)
    # In designs where only some personas generate responses, generators and centroids have different partitions, so
    # they need separate jobs.
    together = study.design == "full"
    jobs: dict[str, tuple[list[str], dict[str, str], str]] = {
        "identify_checkpoint": (
            ["model_checkpoint"],
            {},
            "Computes the digests of a checkpoint's files. Choose the checkpoint.",
        ),
        "measure_personas": (
            list(HEAVY_ASSETS if together else OF_GENERATORS),
            CARD,
            f"Runs the model: responses, divergence{' and centroids' if together else ''}. "
            "Choose one checkpoint and all personas; the run loads the model once.",
        ),
        "measure_centroids": (
            ["centroids"],
            CARD,
            "Runs the model: centroids of every persona, including those that generate no responses. "
            "Choose one checkpoint and all personas.",
        ),
        "train_markers": (
            list(of_sources(study)),
            CARD,
            "Runs the model: trains the marker into each source and measures how it leaks to every target. "
            "Choose one checkpoint and all sources.",
        ),
        "compare_personas": (
            light,
            {},
            "Builds tables, figures and the report of a measured checkpoint. Choose the checkpoint.",
        ),
        COMPARE_CHECKPOINTS: (["checkpoint_drift"], {}, "Compares the measured checkpoints with one another."),
    }
    # Imported studies lack these checks, and Dagster rejects a selection that subtracts an unknown check.
    chosen_checks = [*ON_DEMAND, *((asset, STUDY_CHECK) for asset in light)]
    on_demand = [] if study.imported else [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, name in chosen_checks]
    chosen = {name: jobs[name] for name in job_names(study)}
    # Prefills the launchpad with the study's settings, which the user can override for one run.
    inference = {"resources": {"gpu": {"config": study.inference.model_dump()}}}
    return [
        dg.define_asset_job(
            name,
            dg.AssetSelection.assets(*assets) - dg.AssetSelection.checks(*on_demand),
            config=inference if tags == CARD else None,
            tags=tags,
            description=description,
        )
        for name, (assets, tags, description) in chosen.items()
    ]


def light_assets(study: Study) -> list[str]:
    """Return the study's tables, figures and report that are computed per checkpoint, upstream first."""
    left_out = {"centroid_cosine"} if study.imported else set()
    left_out |= set() if study.has_leakage else {"leakage_table", "partial_correlations"}
    return [asset for asset in LIGHT_ASSETS if asset not in left_out]


def job_names(study: Study) -> list[str]:
    """Return the names of a study's jobs, upstream first."""
    if study.imported:
        return ["compare_personas"]
    markers = ["train_markers"] if study.sources else []
    centroids = [] if study.design == "full" else ["measure_centroids"]
    return ["identify_checkpoint", "measure_personas", *centroids, *markers, "compare_personas", COMPARE_CHECKPOINTS]
