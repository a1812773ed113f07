"""Asset `pair_table`: all predictors and the outcome in one table."""

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import metrics
from persona_assets.assets.decorators import light_asset
from persona_assets.graph.groups import STATISTICS
from persona_assets.graph.partitions import STUDY, leakage_input
from persona_assets.page import asset_metadata
from persona_assets.study import Study


@light_asset(STATISTICS, kinds={"pandas", "parquet"}, ins=leakage_input(STUDY))
def pair_table(
    study: dg.ResourceParam[Study], logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset, **leakage: pd.DataFrame
) -> dg.Output[pd.DataFrame]:
    """Predictors (JS, KL, cosines) and outcome (leakage rate, if measured), one row per dyad (source, target)."""
    outcome = leakage.get("leakage_table")
    table = metrics.build_pair_table(logit_js_matrix, centroid_cosine, study.categories, outcome)
    return dg.Output(table, metadata=asset_metadata.pair_table(table))
