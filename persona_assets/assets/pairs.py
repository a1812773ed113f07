"""Every predictor beside the others, one row a dyad."""

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets.metrics import build_pair_table
from persona_assets.orchestration.partitions import STUDY, leakage_input, per_checkpoint
from persona_assets.orchestration.provenance import code_version
from persona_assets.study import Study

PAIRS = "pairs"


@dg.asset(
    partitions_def=per_checkpoint,
    ins=leakage_input(STUDY),
    group_name=PAIRS,
    kinds={"pandas", "parquet"},
    code_version=code_version(STUDY, "pair_table"),
)
def pair_table(
    study: dg.ResourceParam[Study], logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset, **leakage: pd.DataFrame
) -> dg.Output[pd.DataFrame]:
    """One row a dyad (source, target): JS, KL and cosines; beside them, where it was measured, the leakage."""
    outcome = leakage.get("leakage_table")
    table = build_pair_table(logit_js_matrix, centroid_cosine, study.categories, outcome)
    columns = [dg.TableColumn(str(name), str(dtype)) for name, dtype in table.dtypes.items()]
    nearest = table.sort_values("js").head(20).to_markdown(index=False)
    return dg.Output(
        table,
        metadata={
            "dagster/row_count": len(table),
            "dagster/column_schema": dg.TableSchema(columns),
            "most_similar_first": dg.MetadataValue.md(nearest),
        },
    )
