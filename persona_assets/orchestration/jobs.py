"""Jobs by what they cost: a job's assets share one partitioning, so the graph takes three."""

import dagster as dg

HEAVY_ASSETS = ("generations", "logit_js", "centroids")
LIGHT_ASSETS = ("logit_js_matrix", "centroid_cosine", "pair_table", "figures", "report")

identify_checkpoint = dg.define_asset_job(
    "identify_checkpoint",
    selection=["model_checkpoint"],
    description="Digests of a checkpoint's files. Choose the checkpoint.",
)
measure_personas = dg.define_asset_job(
    "measure_personas",
    selection=list(HEAVY_ASSETS),
    description="Model work: responses, divergence and centroids. "
    "Choose one checkpoint and all personas: one run loads the model once.",
)
compare_personas = dg.define_asset_job(
    "compare_personas",
    selection=list(LIGHT_ASSETS),
    description="Tables, figures and report of a checkpoint whose personas are measured. Choose the checkpoint.",
)
JOBS = (identify_checkpoint, measure_personas, compare_personas)
