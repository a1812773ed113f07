"""Every predictor beside the others, one row a dyad."""

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets.metrics import build_pair_table
from persona_assets.orchestration.partitions import STUDY, per_checkpoint
from persona_assets.orchestration.provenance import code_version
from persona_assets.study import Study

PAIRS = "pairs"


@dg.asset(
    partitions_def=per_checkpoint,
    group_name=PAIRS,
    kinds={"pandas", "parquet"},
    code_version=code_version(STUDY, "pair_table"),
)
def pair_table(
    study: dg.ResourceParam[Study], logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset
) -> dg.Output[pd.DataFrame]:
    """One row a dyad (source, target): JS under every choice of generators, KL both ways, cosine per layer."""
    categories = {name: persona.category for name, persona in study.personas.items()}
    table = build_pair_table(logit_js_matrix, centroid_cosine, categories)
    columns = [dg.TableColumn(str(name), str(dtype)) for name, dtype in table.dtypes.items()]
    return dg.Output(
        table,
        metadata={
            "dagster/row_count": len(table),
            "dagster/column_schema": dg.TableSchema(columns),
            "most_similar_first": dg.MetadataValue.md(table.sort_values("js").head(20).to_markdown(index=False)),
        },
    )
