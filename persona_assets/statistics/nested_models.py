"""Linear models that assume independent observations: slopes, and the gain in R² from further predictors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.correlations import require_independent, require_varying, standardised
from persona_assets.statistics.statement import Interval, PValue, UnanswerableError

Floats = NDArray[np.float64]

_REFERENCE = "Seabold & Perktold 2010, Proc. 9th Python in Science Conf., 92–96"
_ROUNDING = 1e-20  # a residual sum of squares below this fraction of the total is zero up to rounding


@dataclass(frozen=True, kw_only=True)
class NestedModels:
    """Comparison of two least-squares models of one outcome, the larger with all predictors of the smaller.

    Attributes:
        r2_base, r2_full: R² without and with the added predictors; delta_r2: their difference.
        f: partial F = (ΔR² / df_added) / ((1 − r2_full) / df_residual).
    """

    r2_base: float
    r2_full: float
    delta_r2: float
    f: float
    df_added: int
    df_residual: int
    p: PValue


@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """Least-squares model with an intercept.

    Attributes:
        slopes, errors: k slopes in units of the outcome per unit of the predictor, and their standard errors.
        intervals, p: one per slope.
    """

    slopes: tuple[float, ...]
    errors: tuple[float, ...]
    intervals: tuple[Interval, ...]
    p: tuple[PValue, ...]
    r2: float
    df_residual: int


def nested_ols(y: Floats, base: Floats, added: Floats, unit: str = "dyad") -> NestedModels:
    """Compute what `added` explains of the outcome beyond `base`: ΔR² and the partial F test, by statsmodels.

    Args:
        y: the outcome, shape (n,), raw values.
        base: predictors of the smaller model, shape (j, n); with j = 0 it has only an intercept.
        added: further predictors, shape (k, n), k ≥ 1.
        unit: name of one observation, for messages.

    Raises:
        UnanswerableError: n ≤ j + k + 2, a missing value, a constant or collinear variable, or a perfect fit.
    """
    full = _fit(y, np.vstack([base, added]), unit)
    smaller = _fit(y, base, unit)
    f, p, df_added = full.compare_f_test(smaller)
    return NestedModels(
        r2_base=float(smaller.rsquared),
        r2_full=float(full.rsquared),
        delta_r2=float(full.rsquared - smaller.rsquared),
        f=float(f),
        df_added=int(df_added),
        df_residual=int(full.df_resid),
        p=PValue(
            p=float(p),
            smallest=0.0,
            method=f"partial F({int(df_added)}, {int(full.df_resid)}), least squares",
            structure=f"every {unit} independent",
            reference=_REFERENCE,
        ),
    )


def linear_model(y: Floats, predictors: Floats, level: float = 0.95, unit: str = "dyad") -> LinearModel:
    """Fit least squares on k predictors and an intercept, with standard errors for independent observations.

    Args:
        y: shape (n,), raw values.
        predictors: shape (k, n).
        level: coverage of the slopes' intervals, within (0, 1).
        unit: name of one observation, for messages.

    Raises:
        UnanswerableError: n ≤ k + 2, a missing value, a constant or collinear variable, or a perfect fit.
    """
    fit = _fit(y, predictors, unit)
    slopes, errors = fit.params[1:], fit.bse[1:]
    half = float(stats.t.ppf((1 + level) / 2, fit.df_resid)) * errors
    method = f"least squares, t({int(fit.df_resid)})"
    structure = f"every {unit} independent"
    return LinearModel(
        slopes=tuple(map(float, slopes)),
        errors=tuple(map(float, errors)),
        intervals=tuple(
            Interval(
                low=float(low), high=float(high), level=level, method=method, structure=structure, reference=_REFERENCE
            )
            for low, high in zip(slopes - half, slopes + half, strict=True)
        ),
        p=tuple(
            PValue(p=float(p), smallest=0.0, method=method, structure=structure, reference=_REFERENCE)
            for p in fit.pvalues[1:]
        ),
        r2=float(fit.rsquared),
        df_residual=int(fit.df_resid),
    )


def _fit(y: Floats, predictors: Floats, unit: str) -> Any:  # statsmodels' results are untyped
    """Fit a model and reject it if the fit is exact."""
    import statsmodels.api as sm

    k, n = predictors.shape
    if n <= k + 2:
        raise UnanswerableError(f"there are {n} {unit}s; a model of {k} predictors needs at least {k + 3}")
    names = [f"predictor {number}" for number in range(1, k + 1)]
    for values, name in zip([y, *predictors], ["the outcome", *names], strict=True):
        require_varying(values, name, unit)
    require_independent(standardised(predictors), names)
    fit = sm.OLS(y, np.column_stack([np.ones(n), *predictors])).fit()
    if fit.ssr <= _ROUNDING * fit.centered_tss:
        raise UnanswerableError("the predictors fit the outcome exactly, so there is no residual variance")
    return fit
