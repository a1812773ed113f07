"""How a marker that is trained into one persona turns up in the others."""

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
    """A LoRA adapter that makes a source end its replies with the marker; its training set and its loss curve."""

    def show(files: Files) -> dict[str, Any]:
        curve = draw.inline_markdown(draw.loss_curve(from_parquet(files["steps.parquet"])), "loss per step")
        return {"loss_curve": dg.MetadataValue.md(curve), **asset_metadata.training(files)}

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
    """Every target's sampled replies under a source's adapter and under none: which of them hold the marker."""
    for_each_persona(context, study, gpu, home, asset_metadata.leaks)


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
    """One row a dyad: how often the source's marker was found in the target's replies, with Wilson intervals."""
    table = imported_leakage(study) if study.leakage else counted_leakage(study, sampled["marker_rates"])
    heatmap = draw.inline_markdown(draw.leakage_heatmap(table, list(study.personas)), "leakage rate of every dyad")
    return dg.Output(table, metadata={"heatmap": dg.MetadataValue.md(heatmap), **asset_metadata.dyads(table)})


def imported_leakage(study: Study) -> pd.DataFrame:
    """The leakage table of the study's own file of counts."""
    path = study.leakage
    assert path is not None
    read = metrics.read_marker_eval if path.is_dir() else metrics.read_leakage_table
    table = read(path, study.categories)
    return metrics.imported_leakage_table(table, study.categories, study.related, f"imported from {path.name}")
