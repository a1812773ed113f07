"""External asset `persona_prompts`: the system prompts in the study's file."""

import dagster as dg

from persona_assets.graph import groups
from persona_assets.graph.partitions import STUDY, per_prompt
from persona_assets.graph.schemas import as_table

PERSONAS = [
    {"persona": name, "category": about.category, "prompt": about.prompt} for name, about in STUDY.personas.items()
]

# An external asset because people write it; `runs.events` reports changed prompts to Dagster.
persona_prompts = dg.AssetSpec(
    "persona_prompts",
    partitions_def=per_prompt,
    group_name=groups.STUDY,
    owners=groups.STUDY_TEAM,
    kinds={"yaml"},
    metadata={"personas": as_table(PERSONAS)},
    description="System prompt of each persona, from the study's file. The data version is the prompt's digest, so "
    "editing a prompt makes everything that uses it stale.",
)
