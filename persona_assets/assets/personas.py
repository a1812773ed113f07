"""The system prompts: made by people, in the study's file."""

import dagster as dg

from persona_assets.orchestration.partitions import per_prompt

# External: nobody computes it. `orchestration.reporting` tells Dagster when a prompt changes.
persona_prompts = dg.AssetSpec(
    "persona_prompts",
    partitions_def=per_prompt,
    group_name="study",
    kinds={"yaml"},
    description="System prompt of each persona, as the study's file has it; the data version is its digest.",
)
