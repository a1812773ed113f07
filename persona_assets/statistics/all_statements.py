"""A pair table in, all statements out."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr

from persona_assets.statistics.coupling import couple
from persona_assets.statistics.dyads import Dyads, read_dyads
from persona_assets.statistics.families import comparison, influence, leakage, looks, models, noise, pairs, power
from persona_assets.statistics.families.asked import Asked
from persona_assets.statistics.families.sample import JS, Settings
from persona_assets.statistics.statement import Statement, UnanswerableError, tabulate

# JS under these choices of generators gives a pair one number or two; each stands in the specification curve.
_GENERATORS = ("js_all", "js_pair", "js_source", "js_target", "js_others", "js_landmarks")


def infer(
    pair_table: pd.DataFrame,
    baseline: str,
    *,
    by_question: xr.DataArray | None = None,
    source_rates: pd.DataFrame | None = None,
    permutations: int = 10_000,
    resamples: int = 2000,
    seed: int = 42,
    level: float = 0.95,
    simulations: int = 200,
    population: str | None = None,
    layer: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Every statement about which of JS and cosine goes with leakage, as a table of `statement.COLUMNS`.

    Args:
        pair_table: as `metrics.build_pair_table` makes it, with leakage.
        baseline: the persona that others are compared with.
        by_question: JS of each question, (question, persona, other), of the generators that the pair table shows.
        source_rates: persona, source_rate and predictors of the baseline with it, where source rates were counted
            elsewhere; otherwise they are taken from the pair table.
        permutations, resamples, seed, level, simulations: see `families.sample.Settings`.
        population, layer: the cosine that the verdict is about; by default the first population of the table, and of
            the layers that it is known at the middle one.
        progress: told of each family as it is done.

    Returns:
        One row a statement and view. What the data cannot answer is a row that says why.
    """
    settings = Settings(permutations, resamples, seed, level, simulations)
    try:
        dyads = read_dyads(pair_table)
    except UnanswerableError as error:
        return tabulate([Statement(family="leakage", quantity="everything", view="dyadic", unanswerable=str(error))])
    asked = Asked(
        dyads=dyads,
        baseline=baseline,
        settings=settings,
        primary=primary_cosine(dyads, population, layer),
        by_question=_in_order(by_question, dyads),
        generators=tuple(name for name in _GENERATORS if name in dyads.predictors and not _same(dyads, name, JS)),
    )
    statements = looks.design(asked)
    families: dict[str, Callable[[], list[Statement]]] = {
        "correlations": lambda: leakage.correlations(asked),
        "comparisons": lambda: comparison.comparisons(asked),
        "partial correlations": lambda: leakage.partial_correlations(asked),
        "nested models": lambda: models.nested_models(asked),
        "slopes": lambda: models.slopes(asked),
        "pairs": lambda: pairs.pairs(asked),
        "coupling": lambda: couple(
            coupling_table(pair_table, baseline) if source_rates is None else source_rates, level, permutations, seed
        ),
        "measurement error": lambda: noise.measurement_error(asked),
        "influence": lambda: influence.influence(asked),
        "specifications": lambda: looks.specifications(asked),
        "power": lambda: power.power(asked),
    }
    for name, family in families.items():
        start = time.perf_counter()
        rows = family()
        statements += rows
        progress(f"{name}: {len(rows)} statements, {time.perf_counter() - start:.1f} s")
    return tabulate(looks.corrected(asked, statements))


def primary_cosine(dyads: Dyads, population: str | None, layer: int | None) -> str:
    """Column of the cosine that the verdict is about; "" where the table holds none.

    Raises:
        ValueError: a population or layer is asked for that the table does not hold.
    """
    found: dict[str, list[int]] = {}
    for name in dyads.predictors:
        if name.startswith("cosine_"):
            of, _, at = name.removeprefix("cosine_").rpartition("_layer")
            found.setdefault(of, []).append(int(at))
    if not found and population is None and layer is None:
        return ""
    chosen = population or next(iter(found), "")
    if chosen not in found or (layer is not None and layer not in found[chosen]):
        known = "; ".join(f"{name}: layers {', '.join(map(str, layers))}" for name, layers in found.items())
        expected = f"one of {known}" if known else "none, for the pair table holds no cosine"
        raise ValueError(f"statistics: found population {population!r}, layer {layer!r}; expected {expected}")
    layers = sorted(found[chosen])
    return f"cosine_{chosen}_layer{layers[len(layers) // 2] if layer is None else layer}"


def coupling_table(pair_table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Every source but the baseline: its own rate, and the baseline's JS and cosines with it."""
    predictors = [str(c) for c in pair_table.columns if c == JS or str(c).startswith("cosine_")]
    if "source_rate" not in pair_table:
        return pd.DataFrame(columns=["persona", "source_rate", *predictors])
    rates = pair_table.dropna(subset="source_rate").groupby("source", sort=False)["source_rate"].first()
    with_baseline = pair_table[pair_table["target"] == baseline].set_index("source")[predictors]
    table = with_baseline.join(rates.astype("float64"), how="inner")
    return table.rename_axis("persona").reset_index()[["persona", "source_rate", *predictors]]


def _same(dyads: Dyads, first: str, second: str) -> bool:
    """Whether two predictors are one: JS as it is shown is that of one of the choices of generators."""
    matrices = dyads.predictors
    return second in matrices and np.array_equal(matrices[first], matrices[second], equal_nan=True)


def _in_order(by_question: xr.DataArray | None, dyads: Dyads) -> np.ndarray | None:
    if by_question is None:
        return None
    names = list(dyads.personas)
    ordered = by_question.sel(persona=names, other=names).transpose("question", "persona", "other")
    return np.asarray(ordered.to_numpy(), dtype=np.float64)
