"""Asset `generations`: the personas' responses."""

import dagster as dg
import pandas as pd

from persona_assets.assets.decorators import heavy_asset
from persona_assets.graph.groups import RESPONSES
from persona_assets.graph.partitions import own_prompt, per_generator
from persona_assets.page import asset_metadata


@heavy_asset(
    RESPONSES,
    per_generator,
    kinds={"huggingface", "parquet"},
    deps=[dg.AssetDep("persona_prompts", partition_mapping=own_prompt)],
    op_tags={"dagster/priority": "1"},  # run first: vLLM generates while this process loads the model for the others
)
def generations(stored: pd.DataFrame) -> asset_metadata.Metadata:
    """Responses of a persona to every question of the study: token ids, text and finish reason, one row per question.

    These tokens are what `logit_js` scores.
    """
    return asset_metadata.generations(stored)
