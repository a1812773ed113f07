"""The system prompts: made by people, in the study's file."""

import dagster as dg

from persona_assets.graph import groups
from persona_assets.graph.partitions import STUDY, per_prompt
from persona_assets.graph.schemas import as_table

PERSONAS = [
    {"persona": name, "category": about.category, "prompt": about.prompt} for name, about in STUDY.personas.items()
]

# External: nobody computes it. `runs.events` tells Dagster when a prompt changes.
persona_prompts = dg.AssetSpec(
    "persona_prompts",
    partitions_def=per_prompt,
    group_name=groups.STUDY,
    owners=groups.STUDY_TEAM,
    kinds={"yaml"},
    metadata={
        "personas": as_table(
            [
                {"persona": name, "category": about.category, "prompt": about.prompt}
                for name, about in STUDY.personas.items()
            ]
        )
    },
    description="System prompt of each persona, as the study's file has it; the data version is its digest.",
)
