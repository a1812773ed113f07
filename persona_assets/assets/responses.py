"""Asset `generations`: the personas' responses."""

import dagster as dg

from persona_assets.graph.groups import MEASUREMENT_TEAM, RESPONSES
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, own_prompt, per_generator
from persona_assets.graph.provenance import code_version
from persona_assets.graph.resources import Gpu
from persona_assets.graph.schemas import expected_schema
from persona_assets.page import asset_metadata
from persona_assets.runs.heavy import for_each_persona
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_generator,
    deps=["model_checkpoint", dg.AssetDep("persona_prompts", partition_mapping=own_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=RESPONSES,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "parquet"},
    metadata=expected_schema("generations"),
    code_version=code_version(STUDY, "generations"),
    op_tags={"dagster/priority": "1"},  # run first: vLLM generates while this process loads the model for the others
)
def generations(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """Responses of a persona to every question of the study: token ids, text and finish reason, one row per question.

    These tokens are what `logit_js` scores.
    """
    for_each_persona(context, study, gpu, home, asset_metadata.generations)
