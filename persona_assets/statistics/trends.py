"""Trend curves through the outcome of all dyads, with a confidence band over the choice of sources.

The curve of a rate is a fractional logistic regression of the rate on one predictor (Papke & Wooldridge 1996, J. Appl.
Econom. 11, 619–632): it stays within 0 and 1, is monotonic, and does not assume binomial rates. The band is a
delete-one-source jackknife on the log odds (Tukey 1958), because dyads of one source are not independent. It is
pointwise, and covers the curve, not individual dyads. The curve of a gain in log-probability is a straight line.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from persona_assets.statistics.dyads import RATE, outcome_column, read_dyads
from persona_assets.statistics.jackknife import FEWEST_LEFT_OUT, left_out_weights
from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]

_PLACES, _STEPS = 60, 50
# Sources that leak to nobody would have log odds of −∞. A prior with a standard deviation of 30 on the log odds keeps
# the fit finite, and changes no other curve by more than 0.001.
_PRIOR = 1 / 30.0**2
_COLUMNS = ("predictor", "place", "rate", "low", "high")


def trend(
    pair_table: pd.DataFrame, predictors: Sequence[str], level: float = 0.95, outcome: str | None = "rate"
) -> pd.DataFrame:
    """Return the curve of each predictor on a grid between its minimum and maximum.

    Args:
        pair_table: table from `metrics.build_pair_table` with leakage.
        predictors: names of its predictor columns.
        level: coverage of the band, within (0, 1).
        outcome: as in `infer`.

    Returns:
        Columns predictor, place, rate, low, high. low and high are NaN with fewer than three sources; a constant
        predictor, or one with fewer than three dyads, has no rows.
    """
    column = outcome_column(pair_table, outcome)
    curves = [curve for name in predictors if (curve := _curve(pair_table, name, level, column)) is not None]
    if not curves:
        return pd.DataFrame({name: pd.Series(dtype="str" if name == "predictor" else "float64") for name in _COLUMNS})
    return pd.concat(curves, ignore_index=True)


def _curve(pair_table: pd.DataFrame, predictor: str, level: float, outcome: str) -> pd.DataFrame | None:
    try:
        dyads = read_dyads(pair_table, outcome).known(predictor)
    except UnanswerableError:
        return None
    if dyads.n < 3 or np.ptp(x := dyads.at(predictor)) == 0:
        return None
    places = np.linspace(x.min(), x.max(), _PLACES)
    scaled, at = ((values - x.mean()) / x.std() for values in (x, places))
    left_out = left_out_weights(dyads.source)
    is_rate = outcome in (RATE, "expected_rate")
    fit, scale = (_log_odds, expit) if is_rate else (_straight, np.asarray)
    odds = fit(scaled, dyads.outcome, np.vstack([np.ones(dyads.n), left_out]), at)
    half, sources = np.full(_PLACES, np.nan), len(left_out)
    if sources >= FEWEST_LEFT_OUT:
        spread = ((odds[1:] - odds[1:].mean(axis=0)) ** 2).sum(axis=0)
        half = stats.t.ppf((1 + level) / 2, sources - 1) * np.sqrt((sources - 1) / sources * spread)
    lines = {"rate": odds[0], "low": odds[0] - half, "high": odds[0] + half}
    return pd.DataFrame({"predictor": predictor, "place": places, **{name: scale(odd) for name, odd in lines.items()}})


def _straight(x: Floats, outcome: Floats, weights: Floats, at: Floats) -> Floats:
    """Fit straight lines (R, places) under R sets of weights (R, n), by least squares; NaN where x is constant."""
    total = weights.sum(axis=1)
    means = weights @ x / total, weights @ outcome / total
    products = weights @ (x * outcome) / total - means[0] * means[1]
    squares = weights @ x**2 / total - means[0] ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = products / np.where(squares > 1e-12, squares, np.nan)
    return np.asarray(means[1][:, None] + slopes[:, None] * (at - means[0][:, None]))


def _log_odds(x: Floats, rate: Floats, weights: Floats, at: Floats) -> Floats:
    """Fit log odds (R, places) under R sets of weights (R, n), by Newton's method."""
    design, coefficients = np.stack([np.ones_like(x), x], axis=1), np.zeros((len(weights), 2))
    for _ in range(_STEPS):
        fitted = expit(coefficients @ design.T)
        gradient = (weights * (rate - fitted)) @ design - _PRIOR * coefficients
        curvature = np.einsum("rn,ni,nj->rij", weights * fitted * (1 - fitted), design, design) + _PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        coefficients = coefficients + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    return np.asarray(coefficients @ np.stack([np.ones_like(at), at]))
