"""How the graph is partitioned, and the study that it is partitioned by.

One process serves one study: PERSONA_ASSETS_STUDY chooses it before anything is imported.
"""

import dagster as dg

from persona_assets.study import load_study

STUDY = load_study()

CHECKPOINT, PERSONA = "checkpoint", "persona"

per_checkpoint = dg.DynamicPartitionsDefinition(name=CHECKPOINT)
per_prompt = dg.StaticPartitionsDefinition(list(STUDY.personas))
per_persona = dg.MultiPartitionsDefinition({CHECKPOINT: per_checkpoint, PERSONA: per_prompt})

every_persona = dg.MultiToSingleDimensionPartitionMapping(CHECKPOINT)
every_prompt = dg.AllPartitionMapping()


def partition_key(checkpoint: str, persona: str) -> str:
    """The key of one checkpoint × persona, as Dagster writes it."""
    return str(dg.MultiPartitionKey({CHECKPOINT: checkpoint, PERSONA: persona}))


def split_key(key: str) -> tuple[str, str]:
    """Checkpoint and persona of a key; the names' alphabet leaves the bar free."""
    checkpoint, _, persona = key.partition("|")
    return checkpoint, persona
