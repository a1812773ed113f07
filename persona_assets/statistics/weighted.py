"""Correlation matrices of many resamples in one pass, and statistics computed from them in closed form.

A resample is a row of weights: how often each observation occurs in it. ρ, partial ρ, differences and ΔR² are then all
functions of the same (R, m, m) correlation matrices.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.chunks import chunks
from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]
Coefficient = Literal["spearman", "pearson"]

FEWEST = 4  # the fewest observations for a correlation
_ROUNDING = 1e-24  # a sum of squares below this fraction of the uncentred one is zero up to rounding
_COLLINEAR = 1e-10  # a variable with less residual variance, of a total of 1, is collinear with the others


def weighted_ranks(x: Floats, weights: NDArray[Any]) -> Floats:
    """Return ranks of x in samples where each observation occurs `weight` times, ties averaged.

    Rank of i = Σ of weights below x_i + (Σ of weights at x_i + 1) / 2. For integer weights that is the rank that
    scipy.stats.rankdata gives each copy in the repeated sample. An observation of weight 0 gets the rank that it would
    have among the others.

    Args:
        x: shape (n,), finite.
        weights: shape (R, n), >= 0, not necessarily integers.

    Returns:
        Shape (R, n). O(R n) after one sort.
    """
    order = np.argsort(x, kind="stable")
    _, first, group = np.unique(x[order], return_index=True, return_inverse=True)
    of_group = np.add.reduceat(np.asarray(weights, dtype=np.float64)[:, order], first, axis=1)
    middle = np.cumsum(of_group, axis=1) - of_group / 2 + 0.5
    place = np.empty_like(group)
    place[order] = group
    return np.asarray(np.take(middle, place, axis=1))


def correlation_matrices(values: Floats, weights: NDArray[Any], coefficient: Coefficient) -> Floats:
    """Return weighted correlations between m variables in every resample.

    Args:
        values: shape (m, n), one row per variable, finite.
        weights: shape (R, n), >= 0: how often each observation occurs in each resample.
        coefficient: `pearson`, or `spearman` (Pearson's of the weighted ranks).

    Returns:
        Shape (R, m, m), within [−1, 1]; NaN in row and column of a variable that is constant in that resample.

    Raises:
        UnanswerableError: there are fewer than 4 observations, or values are not finite.
    """
    m, n = values.shape
    if n < FEWEST:
        raise UnanswerableError(f"there are {n} observations; a correlation needs at least {FEWEST}")
    if unknown := int((~np.isfinite(values)).any(axis=0).sum()):
        raise UnanswerableError(f"a value is unknown in {unknown} of {n} observations")
    # Centre first, so that a large common level does not cost precision.
    shifted = values - values.mean(axis=1, keepdims=True)
    matrices = np.empty((len(weights), m, m))
    for rows in chunks(len(weights), m * n):
        times = np.asarray(weights[rows], dtype=np.float64)
        if coefficient == "spearman":
            sample = np.stack([weighted_ranks(x, times) for x in values], axis=1)
        else:
            sample = np.broadcast_to(shifted, (len(times), m, n))
        matrices[rows] = _weighted_pearson(sample, times[:, None, :])
    return matrices


def _weighted_pearson(sample: Floats, times: Floats) -> Floats:
    """Return correlations (R, m, m) of samples (R, m, n) with weights (R, 1, n)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (sample * times).sum(axis=-1, keepdims=True) / times.sum(axis=-1, keepdims=True)
        deviations = sample - means
        weighted = deviations * times
        products = weighted @ deviations.swapaxes(-1, -2)
        squares = np.einsum("rmm->rm", products)
        uncentred = squares + (means[..., 0] ** 2) * times.sum(axis=-1)
        spread = np.sqrt(np.where(squares > _ROUNDING * uncentred, squares, np.nan))
        matrices = products / spread[:, :, None] / spread[:, None, :]
    return np.asarray(np.clip(matrices, -1.0, 1.0))


def partial(matrices: Floats, x: int, given: Sequence[int]) -> Floats:
    """Return the partial correlation of variable 0 (the outcome) with variable x given other variables.

    Args:
        matrices: correlation matrices, shape (..., m, m).

    Returns:
        Shape (...); NaN where the given variables determine x or the outcome, or are collinear.
    """
    rest = _residualised(matrices, given)
    with np.errstate(invalid="ignore"):
        return np.asarray(rest[..., 0, x] / np.sqrt(_residual_variance(rest, 0) * _residual_variance(rest, x)))


def semi_partial(matrices: Floats, x: int, given: Sequence[int]) -> Floats:
    """Return the correlation of variable 0 (the outcome) with x after partialling the given variables out of x only."""
    rest = _residualised(matrices, given)
    with np.errstate(invalid="ignore"):
        return np.asarray(rest[..., 0, x] / np.sqrt(_residual_variance(rest, x)))


def r_squared(matrices: Floats, predictors: Sequence[int]) -> Floats:
    """Return R² of a linear model of variable 0 (the outcome) with an intercept and these predictors.

    Args:
        matrices: correlation matrices, shape (..., m, m).

    Returns:
        Shape (...); NaN where predictors are collinear.
    """
    return np.asarray(1.0 - _residualised(matrices, predictors)[..., 0, 0])


def delta_r2(matrices: Floats, added: Sequence[int], given: Sequence[int]) -> Floats:
    """Return the gain in R² of variable 0 (the outcome) from the added predictors over the given ones."""
    return np.asarray(r_squared(matrices, [*given, *added]) - r_squared(matrices, given))


def _residualised(matrices: Floats, given: Sequence[int]) -> Floats:
    """Return covariances of all variables' residuals given z: C − C_z C_zᵀ / C_zz, one z at a time."""
    rest = matrices
    for z in given:
        column = rest[..., :, z]
        with np.errstate(invalid="ignore"):
            rest = rest - column[..., :, None] * column[..., None, :] / _residual_variance(rest, z)[..., None, None]
    return rest


def _residual_variance(rest: Floats, variable: int) -> Floats:
    """Return a variable's residual variance; NaN if it is 0 up to rounding."""
    variance = rest[..., variable, variable]
    return np.asarray(np.where(variance > _COLLINEAR, variance, np.nan))
