"""A small synthetic pair table with the columns of `metrics.build_pair_table`."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr

BASELINE = "assistant"
MakePairTable = Callable[..., pd.DataFrame]


@pytest.fixture(scope="session")
def make_pair_table() -> MakePairTable:
    """Return a function that makes the table from `personas` points in a plane; the last one is the baseline.

    The first `sources` personas are sources. JS grows with the squared distance of two personas, leakage and cosines
    decrease with it; sources and targets have their own effects.
    """
    return _pair_table


def _pair_table(personas: int = 9, sources: int = 5, seed: int = 0, total: int = 50) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    names = [*(f"persona_{number}" for number in range(personas - 1)), BASELINE]
    places = rng.normal(size=(personas, 2))
    squared = ((places[:, None] - places) ** 2).sum(-1)

    def between(sd: float) -> np.ndarray:
        upper = np.triu(rng.normal(0, sd, (personas, personas)), 1)
        return upper + upper.T

    js = 0.05 * (1 - np.exp(-squared / 3)) * np.exp(between(0.1))
    predictors = {
        "js": js,
        "js_low": 0.9 * js,
        "js_high": 1.1 * js,
        "js_all": js,
        "js_source": js * np.exp(rng.normal(0, 0.1, js.shape)),
        "cosine_study_layer3": np.tanh(0.8 - squared / 2 + between(0.5)),
        "cosine_study_layer9": np.tanh(0.8 - squared / 2 + between(0.2)),
    }
    logit = 1.5 - 80 * js + rng.normal(0, 0.5, (personas, 1)) + rng.normal(0, 0.3, personas)
    found = rng.binomial(total, 1 / (1 + np.exp(-logit)))
    own = rng.uniform(0.5, 0.9, personas)
    source, target = (side[~np.eye(personas, dtype=bool)] for side in np.indices((personas, personas)))
    measured = source < sources
    table = pd.DataFrame(
        {
            "source": [names[place] for place in source],
            "target": [names[place] for place in target],
            "source_category": np.array(["odd", "even"])[source % 2],
            "target_category": np.array(["odd", "even"])[target % 2],
            **{name: matrix[source, target] for name, matrix in predictors.items()},
            "leakage_found": pd.array(found[source, target], dtype="Int64"),
            "leakage_total": pd.array(np.full(len(source), total), dtype="Int64"),
            "leakage_rate": found[source, target] / total,
            "source_rate": own[source],
        }
    )
    return without_leakage(table, ~measured, source_rate=True)


def without_leakage(table: pd.DataFrame, dyads: "pd.Series | np.ndarray", source_rate: bool = False) -> pd.DataFrame:
    """Return the table with the outcome of these dyads missing."""
    columns = [name for name in table if str(name).startswith("leakage_")] + ["source_rate"] * source_rate
    return table.assign(**{name: table[name].mask(dyads) for name in columns})


@pytest.fixture(scope="session")
def make_by_question() -> Callable[[pd.DataFrame], xr.DataArray]:
    """Make JS for each of eight questions, with a mean near that of the table."""
    return _by_question


def _by_question(table: pd.DataFrame) -> xr.DataArray:
    names = list(dict.fromkeys(table["source"]))
    js = table.pivot(index="source", columns="target", values="js").loc[names, names].to_numpy(na_value=0.0)
    noise = np.random.default_rng(1).normal(1, 0.2, (8, 1, 1))
    return xr.DataArray(
        js * noise,
        dims=("question", "persona", "other"),
        coords={"question": range(8), "persona": names, "other": names},
    )
