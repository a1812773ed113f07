"""The heavy end of the graph where a published run was imported: nobody computes it here, files brought it."""

import dagster as dg

from persona_assets.graph.groups import CHECKPOINT, DIVERGENCE, GEOMETRY, RESPONSES, STUDY_TEAM
from persona_assets.graph.partitions import per_checkpoint, per_persona

IMPORTED = [
    dg.AssetSpec(
        "model_checkpoint",
        partitions_def=per_checkpoint,
        group_name=CHECKPOINT,
        owners=STUDY_TEAM,
        kinds={"json"},
        description="What the published files say of the model that they measured. There are no weights here.",
    ),
    dg.AssetSpec(
        "generations",
        partitions_def=per_persona,
        group_name=RESPONSES,
        owners=STUDY_TEAM,
        kinds={"json", "parquet"},
        description="What a persona answered to every question, imported from files.",
    ),
    dg.AssetSpec(
        "logit_js",
        partitions_def=per_persona,
        group_name=DIVERGENCE,
        owners=STUDY_TEAM,
        kinds={"json", "xarray"},
        description="JS of every pair along one generator's responses, imported from files.",
    ),
    dg.AssetSpec(
        "centroid_cosine",
        partitions_def=per_checkpoint,
        group_name=GEOMETRY,
        owners=STUDY_TEAM,
        kinds={"json", "xarray"},
        description="Cosines as they were published, imported from files; the centroids behind them are not there.",
    ),
]
