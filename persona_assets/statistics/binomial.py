"""Logistic models of leakage counts: how many of a dyad's replies contain the marker.

Predictors are standardised to z-scores over the dyads (mean 0, standard deviation 1 with divisor n), so a slope is the
change in log odds per standard deviation, and the slopes of JS and of a cosine are comparable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linprog

from persona_assets.statistics.correlations import require_independent, require_varying
from persona_assets.statistics.laplace import LARGEST_SIGMA, NO_SIGMA, CrossedCounts, Maximum, Uncertainty
from persona_assets.statistics.statement import Interval, PValue, UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GLM = "McCullagh & Nelder 1989, Generalized Linear Models, chapter 4"
_MIXED = "Bates, Mächler, Bolker & Walker 2015, J. Stat. Softw. 67(1)"
_FEWEST = 3  # sources or targets
_SIDES = ("source", "target", "dyad")
_TOLERATED_GAP = 1e-3  # tolerated gap in log likelihood between the optimiser's result and the maximum
_SEPARATED = 1e-7  # in units of the predictors' sd


@dataclass(frozen=True, kw_only=True)
class BinomialFit:
    """Logistic model that treats all replies as independent.

    Attributes:
        slopes, intervals, p: by predictor; log odds per standard deviation of the predictor.
        intercept: log odds with every predictor at its mean.
    """

    slopes: Mapping[str, float]
    intervals: Mapping[str, Interval]
    p: Mapping[str, PValue]
    intercept: float
    log_likelihood: float


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """Logistic mixed model with crossed random effects of source, target and dyad.

    Attributes:
        slopes, intervals, p: by predictor; log odds per standard deviation, for a dyad whose effects are 0.
        intercept: log odds with every predictor at its mean and every effect 0.
        sigma_source, sigma_target, sigma_dyad: standard deviations of the effects, on the logit scale.
        means, sds: mean and standard deviation of each predictor over the dyads: z = (x − mean) / sd.
        log_likelihood: Laplace approximation, including the binomial coefficients.
        note: warnings about a singular fit (as in lme4) or unreliable standard errors; "" if there are none.
    """

    slopes: Mapping[str, float]
    intervals: Mapping[str, Interval]
    p: Mapping[str, PValue]
    intercept: float
    sigma_source: float
    sigma_target: float
    sigma_dyad: float
    means: Mapping[str, float]
    sds: Mapping[str, float]
    log_likelihood: float
    note: str


def binomial_glm(found: Floats, total: Floats, predictors: Mapping[str, Floats], level: float = 0.95) -> BinomialFit:
    """Fit logit p = β0 + Σ β z(x), found ~ Binomial(total, p), with statsmodels; Wald intervals and p.

    Args:
        found, total: shape (n,), counts.
        predictors: name → shape (n,), raw values.
        level: coverage of the slopes' intervals, within (0, 1).

    Raises:
        UnanswerableError: a value is missing; counts are invalid; there are no more dyads than coefficients; the marker
            was found in no reply or in all of them; a predictor is constant or collinear with the others; or the
            predictors separate dyads with the marker from those without.
    """
    import statsmodels.api as sm

    design = _design(found, total, predictors)
    fit = sm.GLM(np.column_stack([found, total - found]), design, family=sm.families.Binomial()).fit(tol=1e-10)
    limits = fit.conf_int(1 - level)
    said: dict[str, Any] = {
        "method": "logistic regression, Wald",
        "structure": "every reply independent",
        "reference": _GLM,
    }
    return BinomialFit(
        slopes=dict(zip(predictors, map(float, fit.params[1:]), strict=True)),
        intervals={
            name: Interval(low=float(low), high=float(high), level=level, **said)
            for name, (low, high) in zip(predictors, limits[1:], strict=True)
        },
        p={name: PValue(p=float(p), smallest=0.0, **said) for name, p in zip(predictors, fit.pvalues[1:], strict=True)},
        intercept=float(fit.params[0]),
        log_likelihood=float(fit.llf),
    )


def binomial_mixed(
    found: Floats,
    total: Floats,
    predictors: Mapping[str, Floats],
    source: Ints,
    target: Ints,
    level: float = 0.95,
) -> MixedFit:
    """Fit logit p = β0 + Σ β z(x) + u_source + v_target + e_dyad, all effects normal, by maximum Laplace likelihood.

    The dyad effect models over-dispersion: 200 replies of one dyad carry less information than 200 dyads. Intervals are
    Wald intervals from the Hessian over slopes and σ, as glmer's vcov. p is a likelihood ratio test, χ²(1), against the
    model without the predictor, with σ refitted. The two can disagree in borderline cases; with few sources both are
    too optimistic, because they are asymptotic in the number of sources and targets.

    Args:
        found, total: shape (n,), counts.
        predictors: name → shape (n,), raw values.
        source, target: shape (n,), members of the dyads.
        level: coverage of the slopes' intervals, within (0, 1).

    Raises:
        UnanswerableError: as in `binomial_glm`; there are fewer than three sources or targets, or no more dyads than
            parameters; or the estimated sd of an effect is unbounded.
    """
    fewest = min(len(np.unique(source)), len(np.unique(target)))
    if fewest < _FEWEST:
        raise UnanswerableError(f"there are {fewest} sources or targets; crossed effects need at least {_FEWEST}")
    design = _design(found, total, predictors, further=len(_SIDES))
    counts = CrossedCounts(found, total, design, source, target)
    overall = found.sum() / total.sum()
    start = np.concatenate([[np.log(overall / (1 - overall))], np.zeros(len(predictors))])
    best = counts.maximise(start, np.ones(len(_SIDES)))
    if unbounded := [side for side, sigma in zip(_SIDES, best.sigmas, strict=True) if sigma >= LARGEST_SIGMA]:
        raise UnanswerableError(f"the estimated sd of the effects of {' and '.join(unbounded)} is unbounded")
    uncertainty = counts.uncertainty(best)
    half = float(stats.norm.ppf((1 + level) / 2)) * np.sqrt(np.diag(uncertainty.covariance)[1:])

    def without(column: int) -> Maximum:
        smaller = CrossedCounts(found, total, np.delete(design, column, axis=1), source, target)
        return smaller.maximise(np.delete(best.slopes, column), best.sigmas)

    slopes = dict(zip(predictors, map(float, best.slopes[1:]), strict=True))
    said: dict[str, Any] = {"structure": "crossed normal effects of source, target and dyad", "reference": _MIXED}
    return MixedFit(
        slopes=slopes,
        intervals={
            name: Interval(
                low=slope - width, high=slope + width, level=level, method="mixed logistic, Laplace, Wald", **said
            )
            for (name, slope), width in zip(slopes.items(), map(float, half), strict=True)
        },
        p={
            name: PValue(
                p=_likelihood_ratio(best, without(column)),
                smallest=0.0,
                method="mixed logistic, Laplace, likelihood ratio",
                **said,
            )
            for column, name in enumerate(predictors, start=1)
        },
        intercept=float(best.slopes[0]),
        sigma_source=float(best.sigmas[0]),
        sigma_target=float(best.sigmas[1]),
        sigma_dyad=float(best.sigmas[2]),
        means={name: float(np.mean(x)) for name, x in predictors.items()},
        sds={name: float(np.std(x)) for name, x in predictors.items()},
        log_likelihood=best.log_likelihood,
        note=_remark(best, uncertainty),
    )


def _likelihood_ratio(larger: Maximum, smaller: Maximum) -> float:
    return float(stats.chi2.sf(max(0.0, 2 * (larger.log_likelihood - smaller.log_likelihood)), 1))


def _remark(best: Maximum, uncertainty: Uncertainty) -> str:
    at_zero = [side for side, sigma in zip(_SIDES, best.sigmas, strict=True) if sigma <= NO_SIGMA]
    remarks = []
    if at_zero:
        remarks.append(f"the fit is singular: the variance of {' and '.join(at_zero)} is estimated as 0")
    if uncertainty.sigmas_known:
        remarks.append("the intervals treat the variances of the effects as known")
    if uncertainty.gain > _TOLERATED_GAP:
        remarks.append("the optimiser stopped before the maximum likelihood: do not rely on these slopes")
    return "; ".join(remarks)


def _design(found: Floats, total: Floats, predictors: Mapping[str, Floats], further: int = 0) -> Floats:
    """Return the design matrix, shape (n, 1 + k): a column of ones and the z-scores.

    Args:
        further: number of model parameters beyond the 1 + k coefficients.

    Raises:
        UnanswerableError: a logistic model cannot be fitted, as in `binomial_glm`.
    """
    if unknown := int((~(np.isfinite(found) & np.isfinite(total))).sum()):
        raise UnanswerableError(f"the counts are unknown in {unknown} of {len(found)} dyads")
    if wrong := int(((found < 0) | (found > total) | (total < 1)).sum()):
        raise UnanswerableError(
            f"the counts are invalid in {wrong} of {len(found)} dyads; expected total ≥ 1 and 0 ≤ found ≤ total"
        )
    parameters = 1 + len(predictors) + further
    if len(found) <= parameters:
        raise UnanswerableError(f"there are {len(found)} dyads; a model of {parameters} parameters needs more")
    if not found.any():
        raise UnanswerableError("the marker was found in no dyad")
    if (found == total).all():
        raise UnanswerableError("the marker was found in every reply of every dyad")
    for name, x in predictors.items():
        require_varying(x, name, "dyad")
    columns = [(x - x.mean()) / x.std() for x in predictors.values()]
    require_independent(np.stack(columns) / np.sqrt(len(found)), list(predictors))
    design = np.column_stack([np.ones(len(found)), *columns])
    _require_overlap(design, found, total)
    return design


def _require_overlap(design: Floats, found: Floats, total: Floats) -> None:
    """Reject separated data, for which the likelihood has its maximum at infinite coefficients.

    Data are separated if there is a direction γ with xγ ≥ 0 for every dyad with a marked reply, xγ ≤ 0 for every dyad
    with an unmarked reply, and xγ ≠ 0 for at least one (Albert & Anderson 1984, Biometrika 71, 1–10). Linear
    programming finds such a direction (Konis 2007).
    """
    signed = np.vstack([design[found > 0], -design[found < total]])
    gain = linprog(-signed.mean(axis=0), A_ub=-signed, b_ub=np.zeros(len(signed)), bounds=(-1, 1))
    if gain.status == 0 and -gain.fun > _SEPARATED:
        raise UnanswerableError("the predictors separate dyads with the marker from those without, so slopes diverge")
