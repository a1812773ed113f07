"""Which of JS and cosine predicts leakage, and how sure that is."""

from typing import Any

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import presentation as draw
from persona_assets.metrics import read_source_rates
from persona_assets.orchestration.partitions import STUDY, per_checkpoint
from persona_assets.orchestration.provenance import code_version
from persona_assets.statistics import infer, verdict
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_checkpoint,
    group_name="statistics",
    kinds={"pandas", "parquet"},
    code_version=code_version(STUDY, "partial_correlations"),
)
def partial_correlations(
    context: dg.AssetExecutionContext,
    study: dg.ResourceParam[Study],
    pair_table: pd.DataFrame,
    logit_js_matrix: xr.Dataset,
) -> dg.Output[pd.DataFrame]:
    """Every statement twice: as the field reports it (iid), and as the dependence between dyads allows."""
    statements = infer(
        pair_table,
        study.baseline,
        by_question=logit_js_matrix.js_by_question,
        source_rates=read_source_rates(study.source_rates, study.personas) if study.source_rates else None,
        progress=context.log.info,
        **study.statistics.model_dump(),
    )
    found = verdict(statements)
    metadata: dict[str, Any] = {
        "verdict": dg.MetadataValue.md(found.words),
        "rules": dg.MetadataValue.md(draw.rules_markdown(found)),
        "statements": dg.MetadataValue.md(draw.statements_markdown(statements)),
        "dagster/row_count": len(statements),
        "unanswerable": int(statements.note.str.startswith("cannot be answered").sum()),
    }
    return dg.Output(statements, metadata=metadata)
