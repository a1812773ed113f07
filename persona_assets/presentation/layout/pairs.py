"""Cosine columns of the pair table, and its reduction from dyads to unordered pairs."""

import re
from typing import NamedTuple

import numpy as np
import pandas as pd

_COSINE_COLUMN = re.compile(r"cosine_(?P<population>.+)_layer(?P<layer>\d+)")


class CosineColumn(NamedTuple):
    """Cosine column of the pair table, with its centring population and layer."""

    population: str
    layer: int
    column: str


def cosine_columns(pair_table: pd.DataFrame) -> list[CosineColumn]:
    """Return the columns `cosine_<population>_layer<N>`: populations in the table's order, layers ascending."""
    found = [
        CosineColumn(match["population"], int(match["layer"]), str(column))
        for column in pair_table.columns
        if (match := _COSINE_COLUMN.fullmatch(str(column)))
    ]
    populations = list(dict.fromkeys(cosine.population for cosine in found))
    return sorted(found, key=lambda cosine: (populations.index(cosine.population), cosine.layer))


def unordered_pairs(pair_table: pd.DataFrame) -> pd.DataFrame:
    """Keep the first of the two dyads of every pair.

    Args:
        pair_table: one row per dyad, with `source`, `target` and `js` (nats).

    Returns:
        The same columns, one row per pair, sorted from the most similar to the most divergent pair.

    Raises:
        ValueError: the two dyads of a pair have different `js`.
    """
    apart = pair_table[pair_table["source"] != pair_table["target"]]
    names = [sorted(dyad) for dyad in zip(apart["source"], apart["target"], strict=True)]
    keyed = apart.assign(_first=[first for first, _ in names], _second=[second for _, second in names])
    spread = keyed.groupby(["_first", "_second"], sort=False)["js"].agg(["min", "max"])
    unequal = spread[~np.isclose(spread["min"], spread["max"], rtol=1e-5, atol=1e-9, equal_nan=True)]
    if len(unequal):
        first, row = unequal.index[0], unequal.iloc[0]
        raise ValueError(
            f"pair_table: js of {first[0]} → {first[1]} and of {first[1]} → {first[0]} differ "
            f"({row['min']:.6g}, {row['max']:.6g}); expected equal values; use the generator subset all, pair or others"
        )
    one_each = keyed.drop_duplicates(["_first", "_second"]).drop(columns=["_first", "_second"])
    return one_each.sort_values("js", kind="stable").reset_index(drop=True)
