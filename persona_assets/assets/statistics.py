"""Asset `partial_correlations`: how well JS and cosine predict leakage, and with what uncertainty."""

from typing import Any

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import metrics, statistics
from persona_assets import presentation as draw
from persona_assets.assets.decorators import light_asset
from persona_assets.graph.groups import STATISTICS
from persona_assets.graph.partitions import STUDY, source_inputs
from persona_assets.stages.leakage import sampled_counts
from persona_assets.study import Study


@light_asset(STATISTICS, kinds={"pandas", "parquet"}, ins=source_inputs(STUDY, "marker_log_probs", "marker_rates"))
def partial_correlations(
    context: dg.AssetExecutionContext,
    study: dg.ResourceParam[Study],
    pair_table: pd.DataFrame,
    logit_js_matrix: xr.Dataset,
    **replies: Any,
) -> dg.Output[pd.DataFrame]:
    """How well JS and cosine predict leakage: correlations, partial correlations, model comparisons and their verdict.

    Each statistic is reported twice: with dyads treated as independent (iid, common in the literature), and with
    methods that respect the dependence between dyads that share a persona (dyadic). One row per statistic and view.
    """
    statements = statistics.infer(
        pair_table,
        study.baseline,
        by_reply=replies_by_outcome(study, **replies) if replies else None,
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
        "unanswerable": int(statements.note.str.startswith("not computed: ").sum()),
    }
    return dg.Output(statements, metadata=metadata)


def replies_by_outcome(
    study: Study, marker_log_probs: dict[str, pd.DataFrame], marker_rates: dict[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Return every outcome of every reply, from source → its tables."""
    return statistics.long_table(marker_log_probs, sampled_counts(study, marker_rates) if marker_rates else None)


def numbers_of(statements: pd.DataFrame) -> dict[str, float]:
    """Return the numbers behind the verdict, for Dagster's plots: ρ of JS, ρ of cosine, and the difference of |ρ|.

    Estimate, interval bounds and p-value of the dyadic view; values that could not be computed are left out.
    """
    cosine = statistics.primary_of(statements)
    wanted = {
        "rho_js": ("spearman", "js"),
        "rho_cosine": ("spearman", cosine),
        "difference_of_rho": ("difference of |spearman|", f"js − {cosine}"),
    }
    dyadic = statements[(statements["view"] == "dyadic") & statements["family"].isin(["leakage", "comparison"])]
    rows = dyadic.set_index(["quantity", "predictor"])
    return {
        name if field == "estimate" else f"{name}_{field}": float(value)
        for name, key in wanted.items()
        if key in rows.index
        for field, value in rows.loc[[key]].iloc[0][["estimate", "low", "high", "p"]].items()
        if pd.notna(value)
    }
