"""How the graph is partitioned, and the study that it is partitioned by.

One process serves one study: PERSONA_ASSETS_STUDY chooses it before anything is imported.
"""

import dagster as dg

from persona_assets.study import Study
from persona_assets.study.files import load_study

STUDY = load_study()

CHECKPOINT, PERSONA, SOURCE = "checkpoint", "persona", "source"

per_checkpoint = dg.DynamicPartitionsDefinition(name=CHECKPOINT)
per_prompt = dg.StaticPartitionsDefinition(list(STUDY.personas))
per_persona = dg.MultiPartitionsDefinition({CHECKPOINT: per_checkpoint, PERSONA: per_prompt})
# Who writes responses: everybody, unless the study's design says otherwise.
per_generator = (
    per_persona
    if STUDY.design == "full"
    else dg.MultiPartitionsDefinition(
        {CHECKPOINT: per_checkpoint, PERSONA: dg.StaticPartitionsDefinition(list(STUDY.generating))}
    )
)
per_source = dg.MultiPartitionsDefinition(
    {CHECKPOINT: per_checkpoint, SOURCE: dg.StaticPartitionsDefinition(list(STUDY.sources))}
)

every_persona = dg.MultiToSingleDimensionPartitionMapping(CHECKPOINT)
every_source = every_persona
every_prompt = dg.AllPartitionMapping()
# Dagster finds a persona's own prompt by itself, but only where everybody writes. Elsewhere a changed prompt shows all
# responses as out of date; running again finds those in the store whose own prompt is the same.
own_prompt = None if STUDY.design == "full" else every_prompt


def leakage_input(study: Study) -> dict[str, dg.AssetIn]:
    """What assets take in beside the predictors: the leakage table, where the study trains or imports it."""
    return {"leakage_table": dg.AssetIn()} if study.has_leakage else {}


def inference_input(study: Study) -> dict[str, dg.AssetIn]:
    """What is said of leakage and its predictors, where the study has leakage."""
    return {"partial_correlations": dg.AssetIn()} if study.has_leakage else {}


def samples_input(study: Study) -> dict[str, dg.AssetIn]:
    """The sampled replies behind it, where the study trains the marker."""
    return {"marker_rates": dg.AssetIn(partition_mapping=every_source)} if study.sources else {}


def partition_key(checkpoint: str, persona: str) -> str:
    """The key of one checkpoint × persona (or source), as Dagster writes it."""
    return str(dg.MultiPartitionKey({CHECKPOINT: checkpoint, PERSONA: persona}))


def split_key(key: str) -> tuple[str, str]:
    """Checkpoint and persona of a key; the names' alphabet leaves the bar free."""
    checkpoint, _, persona = key.partition("|")
    return checkpoint, persona
