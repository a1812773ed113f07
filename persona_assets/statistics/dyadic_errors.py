"""Dyadic-robust standard errors of linear models, for dependence between dyads that share a persona in any role."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.correlations import require_independent, require_varying, standardised
from persona_assets.statistics.nested_models import LinearModel
from persona_assets.statistics.statement import Interval, PValue, UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_REFERENCE = (
    "Fafchamps & Gubert 2007, J. Dev. Econ. 83, 326–350; Aronow, Samii & Assenova 2015, Polit. Anal. 23, 564–577"
)
_FEWEST = 3  # sources or targets
_ROUNDING = 1e-12  # a sum of squares below this fraction of the total is zero up to rounding


def dyadic_covariance(residuals: Floats, design: Floats, source: Ints, target: Ints) -> Floats:
    """Return the covariance of least-squares coefficients if dyads that share a persona may be dependent.

    V = K / (K − 1) · (XᵀX)⁻¹ M (XᵀX)⁻¹ with M = Σ s_a s_bᵀ over all pairs of dyads a, b that share at least one
    persona, s_d = x_d · residual_d. The sum can be computed over personas instead of pairs of dyads:

        M = Σ_i S_i S_iᵀ − Σ_{i<j} S_ij S_ijᵀ,

    where S_i is the sum of s over all dyads that contain persona i, and S_ij over those between i and j in either
    order; subtracting the second term makes dyads that share both members count once (Fafchamps & Gubert 2007; Aronow,
    Samii & Assenova 2015, section 3). K / (K − 1), with K personas, is the usual factor for K clusters (Cameron &
    Miller 2014).

    Args:
        residuals: shape (n,).
        design: shape (n, k), including a column of ones.
        source, target: shape (n,), members of the dyads, numbered from 0 and different within a dyad.

    Returns:
        Shape (k, k), symmetric. With few personas it may not be positive semi-definite, so a variance may be negative;
        `dyadic_ols` rejects that case. O(n k²).
    """
    scores = design * residuals[:, None]
    low, high = np.minimum(source, target), np.maximum(source, target)
    personas, member = np.unique(np.concatenate([source, target]), return_inverse=True)
    pair = np.unique(low * (high.max() + 1) + high, return_inverse=True)[1]
    of_persona, of_pair = _sums(np.tile(scores, (2, 1)), member), _sums(scores, pair)
    meat = of_persona.T @ of_persona - of_pair.T @ of_pair
    bread = np.linalg.inv(design.T @ design)
    return np.asarray(len(personas) / (len(personas) - 1) * bread @ meat @ bread)


def dyadic_ols(
    y: Floats, predictors: Floats, source: Ints, target: Ints, level: float = 0.95, unit: str = "dyad"
) -> LinearModel:
    """Fit least squares with dyadic-robust errors; the slopes equal those of `linear_model`, the errors differ.

    t has min(sources, targets) − 1 degrees of freedom. With few clusters the sandwich estimate is too small and normal
    quantiles are much too narrow, so this is the cautious choice (Cameron & Miller 2014). It is still too narrow with a
    handful of sources; see benchmarks/results/calibration.md. With few personas a variance may be negative, which is
    an error.

    Args:
        y: shape (n,), raw values.
        predictors: shape (k, n).
        source, target: shape (n,), members of the dyads, numbered from 0.
        level: coverage of the slopes' intervals, within (0, 1).
        unit: name of one observation, for messages.

    Raises:
        UnanswerableError: fewer than three sources or targets, n ≤ k + 2, a missing value, a constant or collinear
            variable, a perfect fit, or a variance ≤ 0.
    """
    k, n = predictors.shape
    fewest = min(len(np.unique(source)), len(np.unique(target)))
    if fewest < _FEWEST:
        raise UnanswerableError(f"there are {fewest} sources or targets; dyadic-robust errors need at least {_FEWEST}")
    if n <= k + 2:
        raise UnanswerableError(f"there are {n} {unit}s; a model of {k} predictors needs at least {k + 3}")
    names = [f"predictor {number}" for number in range(1, k + 1)]
    for values, name in zip([y, *predictors], ["the outcome", *names], strict=True):
        require_varying(values, name, unit)
    columns = standardised(predictors)
    require_independent(columns, names)
    design = np.column_stack([np.ones(n), *columns])
    coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
    residuals = y - design @ coefficients
    spread = float(((y - y.mean()) ** 2).sum())
    if residuals @ residuals <= _ROUNDING * spread:
        raise UnanswerableError("the predictors fit the outcome exactly, so there is no residual variance")
    variances = np.diag(dyadic_covariance(residuals, design, source, target))[1:]
    # a standardised slope's variance is of the order of spread / n
    if variances.min() <= _ROUNDING * spread:
        raise UnanswerableError("the dyadic-robust variance of a slope is 0 or less: there are too few personas")
    scale = np.linalg.norm(predictors - predictors.mean(axis=1, keepdims=True), axis=1)
    slopes, errors = coefficients[1:] / scale, np.sqrt(variances) / scale
    df = fewest - 1
    half = float(stats.t.ppf((1 + level) / 2, df)) * errors
    p_values = 2 * stats.t.sf(np.abs(slopes) / errors, df)
    method = f"least squares, dyadic-robust errors, t({df}) with df = min(sources, targets) − 1"
    said = {"method": method, "structure": f"{unit}s that share a persona are dependent", "reference": _REFERENCE}
    return LinearModel(
        slopes=tuple(map(float, slopes)),
        errors=tuple(map(float, errors)),
        intervals=tuple(
            Interval(low=float(slope - h), high=float(slope + h), level=level, resamples=0, note="", **said)
            for slope, h in zip(slopes, half, strict=True)
        ),
        p=tuple(PValue(p=float(p), smallest=0.0, resamples=0, note="", **said) for p in p_values),
        r2=1.0 - float(residuals @ residuals) / spread,
        df_residual=df,
    )


def left_out_slopes(y: Floats, predictors: Floats, weights: Floats) -> Floats:
    """Return least-squares slopes without one unit at a time, for `jackknife_interval`.

    A sandwich estimator uses residuals that are too small for clusters with high leverage; leaving the cluster out
    avoids that bias (Bell & McCaffrey 2002, Surv. Methodol. 28, 169–181).

    Args:
        y: shape (n,).
        predictors: shape (k, n).
        weights: shape (units, n), 0 where an observation is left out, from `left_out_weights`.

    Returns:
        Shape (units, k); NaN if the remaining observations do not determine the slopes.
    """
    design = np.column_stack([np.ones(len(y)), *predictors])
    slopes = np.full((len(weights), len(predictors)), np.nan)
    for unit, kept in enumerate(weights.astype(bool)):
        coefficients, _, rank, _ = np.linalg.lstsq(design[kept], y[kept], rcond=None)
        if rank == design.shape[1]:
            slopes[unit] = coefficients[1:]
    return slopes


def _sums(scores: Floats, group: NDArray[np.intp]) -> Floats:
    """Return the sums of scores, shape (n, k), in each group, shape (groups, k)."""
    return np.column_stack([np.bincount(group, column) for column in scores.T])
