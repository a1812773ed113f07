"""Leakage assets: train a marker into one persona, and measure how often it appears in the others' replies."""

from typing import Any

import dagster as dg
import pandas as pd

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.graph.groups import ANALYSIS_TEAM, LEAKAGE, MEASUREMENT_TEAM
from persona_assets.graph.home import Home
from persona_assets.graph.parquet import from_parquet
from persona_assets.graph.partitions import STUDY, every_prompt, per_checkpoint, per_source, samples_input
from persona_assets.graph.provenance import code_version
from persona_assets.graph.resources import Gpu
from persona_assets.graph.schemas import expected_schema
from persona_assets.page import asset_metadata
from persona_assets.runs.heavy import for_each_persona
from persona_assets.stages.markers import counted_leakage
from persona_assets.store.artefacts import Files
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_source,
    deps=["model_checkpoint", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=LEAKAGE,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "safetensors"},
    code_version=code_version(STUDY, "marker_adapter"),
)
def marker_adapter(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """LoRA adapter that trains a source persona to use the marker, following the study's recipe.

    Stored as safetensors, with the training set and the loss of every step.
    """

    def show(files: Files) -> dict[str, Any]:
        curve = draw.inline_markdown(draw.loss_curve(from_parquet(files["steps.parquet"])), "loss per step")
        return {"loss_curve": dg.MetadataValue.md(curve), **asset_metadata.marker_adapter(files)}

    for_each_persona(context, study, gpu, home, show)


@dg.asset(
    partitions_def=per_source,
    deps=["model_checkpoint", "marker_adapter", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=LEAKAGE,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "parquet"},
    metadata=expected_schema("marker_rates"),
    code_version=code_version(STUDY, "marker_rates"),
)
def marker_rates(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """Sampled replies of every target persona with and without a source's adapter, and whether they contain the marker.

    One row per reply.
    """
    for_each_persona(context, study, gpu, home, asset_metadata.marker_rates)


@dg.asset(
    partitions_def=per_checkpoint,
    ins=samples_input(STUDY),
    group_name=LEAKAGE,
    owners=ANALYSIS_TEAM,
    kinds={"pandas", "parquet"},
    metadata=expected_schema("leakage_table"),
    code_version=code_version(STUDY, "leakage_table"),
)
def leakage_table(study: dg.ResourceParam[Study], **sampled: Any) -> dg.Output[pd.DataFrame]:
    """Leakage rate of every dyad (source, target), with a 95 % Wilson interval; one row per dyad.

    The rate is the share of the target's sampled replies that contain the marker, with the source's adapter applied.
    For comparison the table also has the target's rate without an adapter and the source's own rate.
    """
    table = imported_leakage(study) if study.leakage else counted_leakage(study, sampled["marker_rates"])
    heatmap = draw.inline_markdown(draw.leakage_heatmap(table, list(study.personas)), "leakage rate of every dyad")
    return dg.Output(table, metadata={"heatmap": dg.MetadataValue.md(heatmap), **asset_metadata.leakage_table(table)})


def imported_leakage(study: Study) -> pd.DataFrame:
    """Read the leakage table from the counts file or folder that the study names."""
    path = study.leakage
    assert path is not None
    read = metrics.read_marker_eval if path.is_dir() else metrics.read_leakage_table
    table = read(path, study.categories)
    return metrics.imported_leakage_table(table, study.categories, study.related, f"imported from {path.name}")
