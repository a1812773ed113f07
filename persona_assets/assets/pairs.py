"""Asset `pair_table`: all predictors and the outcome in one table."""

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import metrics
from persona_assets.graph.groups import ANALYSIS_TEAM, STATISTICS
from persona_assets.graph.partitions import STUDY, leakage_input, per_checkpoint
from persona_assets.graph.provenance import code_version
from persona_assets.graph.schemas import expected_schema
from persona_assets.page import asset_metadata
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_checkpoint,
    ins=leakage_input(STUDY),
    group_name=STATISTICS,
    owners=ANALYSIS_TEAM,
    kinds={"pandas", "parquet"},
    metadata=expected_schema("pair_table"),
    code_version=code_version(STUDY, "pair_table"),
)
def pair_table(
    study: dg.ResourceParam[Study], logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset, **leakage: pd.DataFrame
) -> dg.Output[pd.DataFrame]:
    """Predictors (JS, KL, cosines) and outcome (leakage rate, if measured), one row per dyad (source, target)."""
    outcome = leakage.get("leakage_table")
    table = metrics.build_pair_table(logit_js_matrix, centroid_cosine, study.categories, outcome)
    return dg.Output(table, metadata=asset_metadata.pair_table(table))
