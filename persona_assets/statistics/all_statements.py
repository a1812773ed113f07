"""Computation of all statements from a pair table."""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr

from persona_assets.statistics.coupling import couple
from persona_assets.statistics.dyads import Dyads, measured_outcomes, outcome_column, read_dyads
from persona_assets.statistics.families import (
    comparison,
    influence,
    kinds,
    leakage,
    looks,
    models,
    negatives,
    noise,
    outcomes,
    pairs,
    power,
    reliability,
)
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS, Settings
from persona_assets.statistics.replies import replies_at, with_seeds
from persona_assets.statistics.statement import Statement, UnanswerableError, tabulate

# JS columns under other generator subsets, shown in the specification curve.
_GENERATORS = ("js_all", "js_pair", "js_source", "js_target", "js_others", "js_landmarks")


def infer(
    pair_table: pd.DataFrame,
    baseline: str,
    *,
    outcome: str | None = None,
    by_reply: pd.DataFrame | None = None,
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
    """Compute every statement on how JS and cosine relate to leakage, as a table of `statement.COLUMNS`.

    Args:
        pair_table: table from `metrics.build_pair_table` with leakage.
        baseline: the persona that others are compared with.
        outcome: what the verdict is about: `expected_rate`, `rate` or `log_prob_gain`; by default the expected rate if
            the table has it, otherwise the rate. The other outcomes of the table are reported beside it.
        by_reply: the outcomes of every reply, as from `long_table`: outcome, source, target, question, reply, seed,
            value (without a column `outcome`, all are of the chosen one). The reliabilities, the variance components
            and the draws of training seeds need it.
        by_question: JS per question, (question, persona, other), for the generator subset shown in the pair table.
        source_rates: persona, source_rate and predictors between persona and baseline, if source rates were imported;
            otherwise they are taken from the pair table.
        permutations, resamples, seed, level, simulations: see `families.sample.Settings`.
        population, layer: the cosine that the verdict is about; by default the table's first population and the middle
            one of its layers.
        progress: called with a message after each family.

    Returns:
        One row per statement and view. A statement that cannot be computed is a row whose note says why.
    """
    settings = Settings(permutations, resamples, seed, level, simulations)
    chosen = outcome_column(pair_table, outcome)

    def about(column: str) -> Inputs:
        dyads = read_dyads(pair_table, column)
        replies = replies_at(by_reply if column == chosen or _names_outcomes(by_reply) else None, dyads)
        return Inputs(
            dyads=with_seeds(dyads, replies),
            baseline=baseline,
            settings=settings,
            primary=primary_cosine(dyads, population, layer),
            by_question=_in_order(by_question, dyads),
            generators=tuple(name for name in _GENERATORS if name in dyads.predictors and not _same(dyads, name, JS)),
            replies=replies,
        )

    try:
        inputs = about(chosen)
    except UnanswerableError as error:
        return tabulate([Statement(family="leakage", quantity="everything", view="dyadic", unanswerable=str(error))])
    others = [about(column) for column in measured_outcomes(pair_table) if column != chosen]
    statements = looks.design(inputs)
    families: dict[str, Callable[[], list[Statement]]] = {
        "correlations": lambda: leakage.correlations(inputs),
        "comparisons": lambda: comparison.comparisons(inputs),
        "partial correlations": lambda: leakage.partial_correlations(inputs),
        "nested models": lambda: models.nested_models(inputs),
        "slopes": lambda: models.slopes(inputs),
        "pairs": lambda: pairs.pairs(inputs),
        "coupling": lambda: couple(
            coupling_table(pair_table, baseline) if source_rates is None else source_rates, level, permutations, seed
        ),
        "kinds": lambda: kinds.kinds(inputs),
        "trained negatives": lambda: negatives.negatives(inputs),
        "other outcomes": lambda: outcomes.other_outcomes(others),
        "measurement error": lambda: noise.measurement_error(inputs),
        "reliability": lambda: reliability.reliabilities([inputs, *others]),
        "variance components": lambda: reliability.components([inputs, *others]),
        "influence": lambda: influence.influence(inputs),
        "specifications": lambda: looks.specifications(inputs),
        "power": lambda: power.power(inputs),
    }
    for name, family in families.items():
        start = time.perf_counter()
        rows = family()
        statements += rows
        progress(f"{name}: {len(rows)} statements, {time.perf_counter() - start:.1f} s")
    return tabulate(looks.corrected(inputs, kinds.labelled(inputs, statements)))


def primary_cosine(dyads: Dyads, population: str | None, layer: int | None) -> str:
    """Return the column of the cosine that the verdict is about; "" if the table has none.

    Raises:
        ValueError: the table does not have the requested population or layer.
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
        expected = f"one of {known}" if known else "no population or layer, because the pair table has no cosine column"
        raise ValueError(f"statistics: found population {population!r}, layer {layer!r}; expected {expected}")
    layers = sorted(found[chosen])
    return f"cosine_{chosen}_layer{layers[len(layers) // 2] if layer is None else layer}"


def coupling_table(pair_table: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return each source's own rate and its JS and cosines to the baseline, for all sources but the baseline.

    The rate is that of sampled replies; the expected rate if nothing was sampled.
    """
    predictors = [str(c) for c in pair_table.columns if c == JS or str(c).startswith("cosine_")]
    known = [name for name in ("source_rate", "source_expected_rate") if name in pair_table]
    column = next((name for name in known if pair_table[name].notna().any()), "")
    if not column:
        return pd.DataFrame(columns=["persona", "source_rate", *predictors])
    rates = pair_table.dropna(subset=column).groupby("source", sort=False)[column].first()
    with_baseline = pair_table[pair_table["target"] == baseline].set_index("source")[predictors]
    table = with_baseline.join(rates.astype("float64").rename("source_rate"), how="inner")
    return table.rename_axis("persona").reset_index()[["persona", "source_rate", *predictors]]


def _names_outcomes(by_reply: pd.DataFrame | None) -> bool:
    return by_reply is not None and "outcome" in by_reply


def _same(dyads: Dyads, first: str, second: str) -> bool:
    """Return whether two predictors are equal, as the shown JS is to the JS of one generator subset."""
    matrices = dyads.predictors
    return second in matrices and np.array_equal(matrices[first], matrices[second], equal_nan=True)


def _in_order(by_question: xr.DataArray | None, dyads: Dyads) -> np.ndarray | None:
    if by_question is None:
        return None
    names = list(dyads.personas)
    ordered = by_question.sel(persona=names, other=names).transpose("question", "persona", "other")
    return np.asarray(ordered.to_numpy(), dtype=np.float64)
