"""The tables behind a report as files: CSV for any tool, Parquet for full precision and types."""

import io

import pandas as pd
import xarray as xr


def table_files(
    pair_table: pd.DataFrame,
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    statements: pd.DataFrame | None = None,
    leakage_table: pd.DataFrame | None = None,
) -> dict[str, bytes]:
    """Return every table of a report as `<name>.csv` and `<name>.parquet`.

    Args:
        pair_table, statements, leakage_table: written unchanged; None is skipped.
        logit_js_matrix, centroid_cosine: labelled arrays, written as one row per cell; empty cells are skipped.

    Returns:
        Files named pair_table, js_matrix (generators, persona, other; JS and KL with their intervals, in nats), cosine
        (population, layer, persona, other), statements and leakage_table.
    """
    tables = {
        "pair_table": pair_table,
        "js_matrix": _long(logit_js_matrix, ("generators", "persona", "other")),
        "cosine": _long(centroid_cosine, ("population", "layer", "persona", "other")),
        "statements": statements,
        "leakage_table": leakage_table,
    }
    files: dict[str, bytes] = {}
    for name, table in tables.items():
        if table is not None:
            files[f"{name}.csv"] = table.to_csv(index=False, lineterminator="\n").encode()
            buffer = io.BytesIO()
            table.to_parquet(buffer, index=False)
            files[f"{name}.parquet"] = buffer.getvalue()
    return files


def _long(dataset: xr.Dataset, dims: tuple[str, ...]) -> pd.DataFrame:
    """Return one row per cell of the variables that have exactly these dimensions."""
    names = [str(name) for name, array in dataset.data_vars.items() if set(array.dims) == set(dims)]
    table = dataset[names].to_dataframe(dim_order=list(dims)).dropna(how="all", subset=names)
    return table.reset_index()[[*dims, *names]]
