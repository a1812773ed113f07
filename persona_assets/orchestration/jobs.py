"""Jobs by what they cost: a job's assets share one partitioning, so the graph takes four."""

from typing import Any

import dagster as dg

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


def build_jobs(study: Study) -> list[Any]:
    """The jobs of a study, upstream first; without sources no marker is trained."""
    needs_leakage = ("leakage_table", "partial_correlations")
    light = [asset for asset in LIGHT_ASSETS if study.has_leakage or asset not in needs_leakage]
    if study.imported:
        light.remove("centroid_cosine")
    jobs = {
        "identify_checkpoint": (["model_checkpoint"], "Digests of a checkpoint's files. Choose the checkpoint."),
        "measure_personas": (
            list(HEAVY_ASSETS),
            "Model work: responses, divergence and centroids. "
            "Choose one checkpoint and all personas: one run loads the model once.",
        ),
        "train_markers": (
            list(LEAKAGE_ASSETS),
            "Model work: trains the marker into each source and samples every target. "
            "Choose one checkpoint and all sources.",
        ),
        "compare_personas": (light, "Tables, figures and report of a measured checkpoint. Choose the checkpoint."),
    }
    return [dg.define_asset_job(name, selection=jobs[name][0], description=jobs[name][1]) for name in job_names(study)]


def job_names(study: Study) -> list[str]:
    """Names of a study's jobs, upstream first."""
    if study.imported:
        return ["compare_personas"]
    markers = ["train_markers"] if study.sources else []
    return ["identify_checkpoint", "measure_personas", *markers, "compare_personas"]
