"""Leakage assets: train a marker into one persona, and measure how often it appears in the others' replies."""

from typing import Any

import dagster as dg
import pandas as pd

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.assets.decorators import heavy_asset, light_asset
from persona_assets.graph.groups import LEAKAGE
from persona_assets.graph.parquet import from_parquet
from persona_assets.graph.partitions import STUDY, every_prompt, every_target, per_source, source_inputs
from persona_assets.page import asset_metadata
from persona_assets.stages.leakage import measured_leakage
from persona_assets.store.artefacts import Files
from persona_assets.study import Study


@heavy_asset(
    LEAKAGE,
    per_source,
    kinds={"huggingface", "safetensors"},
    deps=[dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
)
def marker_adapter(stored: Files) -> asset_metadata.Metadata:
    """LoRA adapter that trains a source persona to use the marker, following the study's recipe.

    Stored as safetensors, with the training set and the loss of every step.
    """
    curves = {
        "loss_curve": draw.inline_markdown(draw.loss_curve(from_parquet(stored["steps.parquet"])), "loss per step")
    }
    if "followed.parquet" in stored:
        examples = from_parquet(stored["examples.parquet"])
        source = str(examples[examples.marked].persona.iloc[0])
        figure = draw.follow_curve(from_parquet(stored["followed.parquet"]), source)
        curves["leakage_during_training"] = draw.inline_markdown(figure, "expected rate of every target per step")
    return {
        **{name: dg.MetadataValue.md(curve) for name, curve in curves.items()},
        **asset_metadata.marker_adapter(stored),
    }


@heavy_asset(
    LEAKAGE,
    per_source,
    kinds={"huggingface", "parquet"},
    deps=[
        "marker_adapter",
        dg.AssetDep("generations", partition_mapping=every_target),
        dg.AssetDep("persona_prompts", partition_mapping=every_prompt),
    ],
)
def marker_log_probs(stored: pd.DataFrame) -> asset_metadata.Metadata:
    """Log-probability of the marker behind every target's own replies, with and without a source's adapter.

    The replies are the base model's; nothing is sampled from the adapted model. One row per reply and training seed.
    """
    return asset_metadata.marker_log_probs(stored)


@heavy_asset(
    LEAKAGE,
    per_source,
    kinds={"huggingface", "parquet"},
    deps=["marker_adapter", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
)
def marker_rates(stored: pd.DataFrame) -> asset_metadata.Metadata:
    """Sampled replies of every target persona with and without a source's adapter, and whether they contain the marker.

    One row per reply.
    """
    return asset_metadata.marker_rates(stored)


@light_asset(LEAKAGE, kinds={"pandas", "parquet"}, ins=source_inputs(STUDY, "marker_log_probs", "marker_rates"))
def leakage_table(study: dg.ResourceParam[Study], **sampled: Any) -> dg.Output[pd.DataFrame]:
    """Leakage of every dyad (source, target) by every outcome, with 95 % intervals; one row per dyad.

    With the source's adapter applied: the expected rate and the gain in log-probability of the marker behind the
    target's own replies, and, if replies were sampled, the share of them that contain the marker. For comparison the
    table also has the target's values without an adapter and the source's own.
    """
    table = imported_leakage(study) if study.leakage else measured_leakage(study, **sampled)
    heatmap = draw.inline_markdown(draw.leakage_heatmap(table, list(study.personas)), "leakage rate of every dyad")
    return dg.Output(table, metadata={"heatmap": dg.MetadataValue.md(heatmap), **asset_metadata.leakage_table(table)})


def imported_leakage(study: Study) -> pd.DataFrame:
    """Read the leakage table from the counts file or folder that the study names."""
    path = study.leakage
    assert path is not None
    read = metrics.read_marker_eval if path.is_dir() else metrics.read_leakage_table
    table = read(path, study.categories)
    return metrics.imported_leakage_table(table, study.categories, study.related, f"imported from {path.name}")
