"""Which of JS and cosine predicts leakage, and how sure that is."""

from typing import Any

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import metrics, statistics
from persona_assets import presentation as draw
from persona_assets.graph.groups import ANALYSIS_TEAM, STATISTICS
from persona_assets.graph.partitions import STUDY, per_checkpoint
from persona_assets.graph.provenance import code_version
from persona_assets.graph.schemas import expected_schema
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_checkpoint,
    group_name=STATISTICS,
    owners=ANALYSIS_TEAM,
    kinds={"pandas", "parquet"},
    metadata=expected_schema("partial_correlations"),
    code_version=code_version(STUDY, "partial_correlations"),
)
def partial_correlations(
    context: dg.AssetExecutionContext,
    study: dg.ResourceParam[Study],
    pair_table: pd.DataFrame,
    logit_js_matrix: xr.Dataset,
) -> dg.Output[pd.DataFrame]:
    """Every statement twice: as the field reports it (iid), and as the dependence between dyads allows."""
    statements = statistics.infer(
        pair_table,
        study.baseline,
        by_question=logit_js_matrix.js_by_question,
        source_rates=metrics.read_source_rates(study.source_rates, study.personas) if study.source_rates else None,
        progress=context.log.info,
        **study.statistics.model_dump(),
    )
    found = statistics.verdict(statements)
    metadata: dict[str, Any] = {
        "verdict": dg.MetadataValue.md(found.words),
        "rules": dg.MetadataValue.md(draw.rules_markdown(found)),
        "statements": dg.MetadataValue.md(draw.statements_markdown(statements)),
        **numbers_of(statements),
        "unanswerable": int(statements.note.str.startswith("cannot be answered").sum()),
    }
    return dg.Output(statements, metadata=metadata)


def numbers_of(statements: pd.DataFrame) -> dict[str, float]:
    """What the verdict stands on, to be plotted over checkpoints: ρ of both predictors and the difference of |ρ|.

    Of the dyadic view, with the ends of its interval and p; what cannot be answered is left out.
    """
    cosine = statistics.primary_of(statements)
    asked = {
        "rho_js": ("spearman", "js"),
        "rho_cosine": ("spearman", cosine),
        "difference_of_rho": ("difference of |spearman|", f"js − {cosine}"),
    }
    dyadic = statements[(statements["view"] == "dyadic") & statements["family"].isin(["leakage", "comparison"])]
    rows = dyadic.set_index(["quantity", "predictor"])
    return {
        name if field == "estimate" else f"{name}_{field}": float(value)
        for name, key in asked.items()
        if key in rows.index
        for field, value in rows.loc[[key]].iloc[0][["estimate", "low", "high", "p"]].items()
        if pd.notna(value)
    }
