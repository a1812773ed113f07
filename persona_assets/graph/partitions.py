"""Partitions of the graph, and the study that defines them.

A process serves one study, which is loaded when this module is imported; PERSONA_ASSETS_STUDY selects it.
"""

from collections.abc import Mapping

import dagster as dg

from persona_assets.graph.provenance import of_sources
from persona_assets.study import Study
from persona_assets.study.files import load_study

STUDY = load_study()

# What to do when the page still has the study as it was before an edit.
RELOAD = "reload them in the page (Deployment, then Reload)"
# Input metadata key: whether the asset may never have been materialised; it is then an empty mapping.
MAY_BE_MISSING = "persona_assets/may_be_missing"
# Run tags of Dagster that name partitions: one, or the first and the last of a range.
_PARTITION_TAGS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")

CHECKPOINT, PERSONA, SOURCE = "checkpoint", "persona", "source"

per_checkpoint = dg.DynamicPartitionsDefinition(name=CHECKPOINT)
per_prompt = dg.StaticPartitionsDefinition(list(STUDY.personas))
per_persona = dg.MultiPartitionsDefinition({CHECKPOINT: per_checkpoint, PERSONA: per_prompt})
# Personas that generate responses: all of them, unless the study's design names a subset.
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
# From a source to the personas of the same checkpoint.
every_target = dg.MultiPartitionMapping(
    {
        CHECKPOINT: dg.DimensionPartitionMapping(CHECKPOINT, dg.IdentityPartitionMapping()),
        PERSONA: dg.DimensionPartitionMapping(SOURCE, dg.AllPartitionMapping()),
    }
)
every_prompt = dg.AllPartitionMapping()
# Dagster can only map a persona to its own prompt if both assets have the same personas. In the other designs a changed
# prompt marks all responses as stale; the next run then reuses the stored ones whose own prompt is unchanged.
own_prompt = None if STUDY.design == "full" else every_prompt


def leakage_input(study: Study) -> dict[str, dg.AssetIn]:
    """Return the input `leakage_table`, or no input if the study measures no leakage."""
    return {"leakage_table": dg.AssetIn()} if study.has_leakage else {}


def inference_input(study: Study) -> dict[str, dg.AssetIn]:
    """Return the input `partial_correlations`, or no input if the study measures no leakage."""
    return {"partial_correlations": dg.AssetIn()} if study.has_leakage else {}


def source_inputs(study: Study, *assets: str) -> dict[str, dg.AssetIn]:
    """Return those of `marker_log_probs` and `marker_rates` that the study measures, as inputs of every source.

    Instances of 0.1.0 have sampled rates alone, and perhaps no model any more: log-probabilities may be missing.
    """
    wanted = [asset for asset in of_sources(study) if asset in assets]
    marks = {"marker_log_probs": {MAY_BE_MISSING: True}}
    return {asset: dg.AssetIn(partition_mapping=every_source, metadata=marks.get(asset)) for asset in wanted}


def partition_key(checkpoint: str, persona: str) -> str:
    """Return Dagster's partition key for a checkpoint and a persona (or source)."""
    return str(dg.MultiPartitionKey({CHECKPOINT: checkpoint, PERSONA: persona}))


def split_key(key: str) -> tuple[str, str]:
    """Split a partition key into checkpoint and persona; neither name may contain the separator `|`."""
    checkpoint, _, persona = key.partition("|")
    return checkpoint, persona


class StudyChangedError(dg.DagsterError):  # one of Dagster's errors, since these are shown as they are
    """A run was launched from definitions that have another study than its process loaded."""


def keys_of_run(tags: Mapping[str, str]) -> list[str]:
    """Return the partition keys in a run's tags: its partition, or the first and the last of its range."""
    return [tags[name] for name in _PARTITION_TAGS if name in tags]


def require_known_personas(study: Study, keys: list[str]) -> None:
    """Check that a run's partitions exist in the study as its process loaded it.

    Raises:
        StudyChangedError: a persona is not in the study; the run was launched with definitions of an earlier version.
    """
    personas = {split_key(key)[1] for key in keys if "|" in key}
    if unknown := sorted(personas - set(study.personas)):
        raise StudyChangedError(
            f"study {study.name} changed since the definitions were loaded: it has no persona {', '.join(unknown)}; "
            f"{RELOAD} and launch the run again"
        )
