"""Linear mixed model of a continuous outcome at the dyads, with crossed normal effects of source and target.

    y_d = β0 + Σ β z(x_d) + σ_s a_source(d) + σ_t b_target(d) + σ_e e_d,

fitted by REML on lme4's profiled criterion (Bates, Mächler, Bolker & Walker 2015, J. Stat. Softw. 67(1), section 3.4):
given the ratios θ = σ_s / σ_e and σ_t / σ_e, slopes and σ_e follow from one Cholesky factorisation of a matrix with one
row per source and target.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from persona_assets.statistics.binomial import MixedFit
from persona_assets.statistics.correlations import require_independent, require_varying
from persona_assets.statistics.statement import Interval, PValue, UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FEWEST = 3  # sources or targets
_LARGEST_RATIO = 100.0  # bound of σ / σ_e
_NO_RATIO = 1e-3  # a smaller ratio is 0 up to rounding
_REFERENCE = "Bates, Mächler, Bolker & Walker 2015, J. Stat. Softw. 67(1)"


def linear_mixed(
    y: Floats, predictors: Mapping[str, Floats], source: Ints, target: Ints, level: float = 0.95
) -> MixedFit:
    """Fit the model; intervals and p are Wald's, with t on the degrees of freedom that sources and targets leave.

    They are n − slopes − (sources − 1) − (targets − 1) − 1, the containment rule for predictors that vary within
    sources and within targets (Pinheiro & Bates 2000, Mixed-Effects Models in S and S-PLUS, section 2.4.2).

    Args:
        y: shape (n,).
        predictors: name → shape (n,), raw values; slopes are per standard deviation.
        source, target: shape (n,), members of the dyads.
        level: coverage of the slopes' intervals, within (0, 1).

    Returns:
        The fit; sigma_dyad is σ_e, and all σ are in units of y. log_likelihood is the restricted one.

    Raises:
        UnanswerableError: there are fewer than three sources or targets, no degrees of freedom are left, a missing
            value, a constant or collinear variable, or a perfect fit.
    """
    fewest = min(len(np.unique(source)), len(np.unique(target)))
    if fewest < _FEWEST:
        raise UnanswerableError(f"there are {fewest} sources or targets; crossed effects need at least {_FEWEST}")
    n = len(y)
    df = n - len(predictors) - len(np.unique(source)) - len(np.unique(target)) + 1
    if df < 1:
        raise UnanswerableError(f"{n} dyads leave no degrees of freedom beside sources, targets and predictors")
    for name, values in {"the outcome": y, **predictors}.items():
        require_varying(values, name, "dyad")
    columns = [(x - x.mean()) / x.std() for x in predictors.values()]
    if columns:
        require_independent(np.stack(columns) / np.sqrt(n), list(predictors))
    profile = _Profile(y, np.column_stack([np.ones(n), *columns]), source, target)
    ratios = _minimise(profile)
    slopes, covariance, residual, deviance = profile.at(ratios)
    if residual <= 1e-12 * y.std():
        raise UnanswerableError("the predictors and effects fit the outcome exactly, so there is no residual variance")
    errors = np.sqrt(np.diag(covariance))[1:]
    half = float(stats.t.ppf((1 + level) / 2, df)) * errors
    said: dict[str, Any] = {
        "method": f"linear mixed model, REML, Wald, t({df})",
        "structure": "crossed normal effects of source and target",
        "reference": _REFERENCE,
    }
    found = dict(zip(predictors, map(float, slopes[1:]), strict=True))
    at_zero = [side for side, ratio in zip(("source", "target"), ratios, strict=True) if ratio <= _NO_RATIO]
    singular = f"the fit is singular: the variance of {' and '.join(at_zero)} is estimated as 0" if at_zero else ""
    return MixedFit(
        slopes=found,
        intervals={
            name: Interval(low=slope - width, high=slope + width, level=level, **said)
            for (name, slope), width in zip(found.items(), map(float, half), strict=True)
        },
        p={
            name: PValue(p=float(2 * stats.t.sf(abs(slope) / error, df)), smallest=0.0, **said)
            for (name, slope), error in zip(found.items(), errors, strict=True)
        },
        intercept=float(slopes[0]),
        sigma_source=float(ratios[0] * residual),
        sigma_target=float(ratios[1] * residual),
        sigma_dyad=residual,
        means={name: float(np.mean(x)) for name, x in predictors.items()},
        sds={name: float(np.std(x)) for name, x in predictors.items()},
        log_likelihood=-deviance / 2,
        note=singular,
    )


class _Profile:
    """The restricted deviance as a function of the ratios; sums over dyads are taken once."""

    def __init__(self, y: Floats, design: Floats, source: Ints, target: Ints) -> None:
        self.n, self.p = design.shape
        sides = [np.unique(side, return_inverse=True)[1] for side in (source, target)]
        self.levels = tuple(int(side.max()) + 1 for side in sides)
        effects = np.zeros((self.n, sum(self.levels)))
        effects[np.arange(self.n), sides[0]] = 1.0
        effects[np.arange(self.n), self.levels[0] + sides[1]] = 1.0
        self.zz, self.zx, self.zy = effects.T @ effects, effects.T @ design, effects.T @ y
        self.xx, self.xy, self.yy = design.T @ design, design.T @ y, float(y @ y)

    def at(self, ratios: Floats) -> tuple[Floats, Floats, float, float]:
        """Return slopes, their covariance, σ_e and the restricted deviance at these ratios, shape (2,)."""
        scale = np.repeat(ratios, self.levels)
        factor = cho_factor(scale[:, None] * self.zz * scale + np.eye(len(scale)), lower=True)
        zx, zy = scale[:, None] * self.zx, scale * self.zy
        information = self.xx - zx.T @ cho_solve(factor, zx)
        slopes = np.linalg.solve(information, self.xy - zx.T @ cho_solve(factor, zy))
        squares = self.yy - zy @ cho_solve(factor, zy) - slopes @ (self.xy - zx.T @ cho_solve(factor, zy))
        df = self.n - self.p
        variance = max(float(squares), 1e-300) / df
        log_det = 2 * np.log(np.diag(factor[0])).sum() + np.linalg.slogdet(information)[1]
        deviance = float(log_det + df * (1 + np.log(2 * np.pi * variance)))
        return slopes, variance * np.linalg.inv(information), float(np.sqrt(variance)), deviance


def _minimise(profile: _Profile) -> Floats:
    """Return the ratios at the lowest deviance, from several starts because it may have a second minimum at 0."""
    bounds = [(0.0, _LARGEST_RATIO)] * 2
    starts = ([1.0, 1.0], [0.1, 0.1])
    options = {"ftol": 1e-12, "gtol": 1e-7}
    found = [
        minimize(lambda ratios: profile.at(ratios)[3], start, method="L-BFGS-B", bounds=bounds, options=options)
        for start in starts
    ]
    return np.asarray(min(found, key=lambda result: result.fun).x)
