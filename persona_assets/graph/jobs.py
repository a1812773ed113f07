"""Jobs by what they cost: a job's assets share one partitioning, so the graph takes five."""

from typing import Any

import dagster as dg

from persona_assets.graph.provenance import OF_GENERATORS
from persona_assets.study import Study

HEAVY_ASSETS = ("generations", "logit_js", "centroids")
LEAKAGE_ASSETS = ("marker_adapter", "marker_rates")
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
# Checks that the jobs leave to the page and the night: one reads all weights again.
ON_DEMAND = (
    ("model_checkpoint", "weights_are_unchanged"),
    ("model_checkpoint", "measured_without_failure"),
    ("report", "report_is_current"),
)
# Runs that load a model; dagster.yaml lets one of them go at a time.
CARD = {"persona_assets/card": "yes"}


def build_jobs(study: Study) -> list[Any]:
    """The jobs of a study, upstream first; without sources no marker is trained."""
    needs_leakage = ("leakage_table", "partial_correlations")
    light = [asset for asset in LIGHT_ASSETS if study.has_leakage or asset not in needs_leakage]
    if study.imported:
        light.remove("centroid_cosine")
    # A design in which few personas write responses has other partitions for them than for centroids.
    together = study.design == "full"
    jobs: dict[str, tuple[list[str], dict[str, str], str]] = {
        "identify_checkpoint": (["model_checkpoint"], {}, "Digests of a checkpoint's files. Choose the checkpoint."),
        "measure_personas": (
            list(HEAVY_ASSETS if together else OF_GENERATORS),
            CARD,
            f"Model work: responses, divergence{' and centroids' if together else ''}. "
            "Choose one checkpoint and all personas: one run loads the model once.",
        ),
        "measure_centroids": (
            ["centroids"],
            CARD,
            "Model work: centroids of every persona, whoever writes responses. Choose one checkpoint and all personas.",
        ),
        "train_markers": (
            list(LEAKAGE_ASSETS),
            CARD,
            "Model work: trains the marker into each source and samples every target. "
            "Choose one checkpoint and all sources.",
        ),
        "compare_personas": (light, {}, "Tables, figures and report of a measured checkpoint. Choose the checkpoint."),
        COMPARE_CHECKPOINTS: (["checkpoint_drift"], {}, "How the measured checkpoints differ from one another."),
    }
    # An imported study has none of them, and Dagster refuses to leave out what is not there.
    on_demand = [] if study.imported else [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, name in ON_DEMAND]
    chosen = {name: jobs[name] for name in job_names(study)}
    # What the launchpad shows; it is the study's, to be changed for one run.
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


def job_names(study: Study) -> list[str]:
    """Names of a study's jobs, upstream first."""
    if study.imported:
        return ["compare_personas"]
    markers = ["train_markers"] if study.sources else []
    centroids = [] if study.design == "full" else ["measure_centroids"]
    return ["identify_checkpoint", "measure_personas", *centroids, *markers, "compare_personas", COMPARE_CHECKPOINTS]
