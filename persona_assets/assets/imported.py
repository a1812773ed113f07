"""External assets of a study that imports a published run: these assets are read from files, not computed."""

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
        description="Identity of the measured model as stated in the published files; the weights are not available.",
    ),
    dg.AssetSpec(
        "generations",
        partitions_def=per_persona,
        group_name=RESPONSES,
        owners=STUDY_TEAM,
        kinds={"json", "parquet"},
        description="A persona's responses, one row per question; imported from the published files.",
    ),
    dg.AssetSpec(
        "logit_js",
        partitions_def=per_persona,
        group_name=DIVERGENCE,
        owners=STUDY_TEAM,
        kinds={"json", "xarray"},
        description="JS between every pair of personas, in nats, on the responses of one generator persona; "
        "imported from the published files.",
    ),
    dg.AssetSpec(
        "centroid_cosine",
        partitions_def=per_checkpoint,
        group_name=GEOMETRY,
        owners=STUDY_TEAM,
        kinds={"json", "xarray"},
        description="K×K cosine similarity between personas' centroids, per layer and centring population; imported "
        "from the published files, which do not include the centroids.",
    ),
]
