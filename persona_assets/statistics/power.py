"""How many sources a study needs, to tell JS from a cosine as the better predictor of leakage.

Studies are simulated from the mixed logistic model that was fitted to the observed one: S sources, drawn from the
personas that are known, their dyads to the other personas, new effects of sources, targets and dyads, and binomial counts.
A study sees the difference where its delete-one-source jackknife does.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from persona_assets.statistics.binomial import MixedFit
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.jackknife import left_out_weights
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import correlation_matrices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_TARGETS = 20  # of a source: bounds the cost of a study
_FEWEST = 3  # personas to draw sources from


@dataclass(frozen=True, kw_only=True)
class PowerCurve:
    """How often simulated studies see the difference, by number of sources.

    Attributes:
        sizes: numbers of sources that were tried, ascending.
        share: share of the studies of that size that see the difference, one a size.
        needed: sources for the power asked for; None where the largest size does not reach it.
        note: what was assumed.
    """

    sizes: tuple[int, ...]
    share: tuple[float, ...]
    needed: int | None
    note: str


def sources_needed(
    fit: MixedFit,
    dyads: Dyads,
    js: str,
    cosine: str,
    *,
    level: float = 0.95,
    power: float = 0.8,
    seed: int = 42,
    sizes: tuple[int, ...] = (5, 10, 20, 40, 80, 160),
    simulations: int = 200,
) -> PowerCurve:
    """Sources that a study needs to see |ρ_JS| − |ρ_cosine| with this power; stops at the first size that has it.

    A study sees the difference θ where |θ| > t(S − 1) · √((S − 1) / S · Σ (θ_i − mean θ)²), θ_i without source i (Tukey
    1958), two-sided at 1 − level, and θ has the sign of the observed difference. Between two sizes, the share is taken
    as linear in log S.

    Args:
        fit: of the counts on `js` and `cosine`, from `binomial_mixed`.
        dyads: what was observed; sources are drawn, with replacement, from the personas whose `js` and `cosine` to all
            other personas are known.
        js, cosine: predictors of both.
        simulations: studies of each size.

    Raises:
        UnanswerableError: fewer than three personas to draw from, or no difference was observed to be seen.
    """
    observed = _difference(np.stack([dyads.rate, dyads.at(js), dyads.at(cosine)]), np.ones((1, dyads.n)))[0]
    if not np.isfinite(observed) or observed == 0:
        raise UnanswerableError("no difference between the two predictors was observed that a study could see")
    model = _model(fit, dyads, js, cosine)
    rng = np.random.default_rng(seed)
    shares: list[float] = []
    for size in sizes:
        critical = float(stats.t.ppf((1 + level) / 2, size - 1))
        studies = [_jackknife(*_study(model, size, rng)) for _ in range(simulations)]
        differences, errors = np.array(studies).T
        # a study without a difference or an error (NaN) saw nothing
        shares.append(float(np.mean(np.sign(observed) * differences > critical * errors)))
        mean = float(np.nanmean(differences)) if np.isfinite(differences).any() else math.nan
        if shares[-1] >= power:
            break
    tried = sizes[: len(shares)]
    targets = min(len(dyads.personas) - 1, _MOST_TARGETS)
    note = (
        f"assumes that the fitted mixed logistic model is true; {simulations} simulated studies a size, each of "
        f"{targets} targets a source and sources drawn from {len(model.sources)} personas with replacement; seen by a "
        f"delete-one-source jackknife, t(sources − 1), at {1 - level:.2g} two-sided; mean difference in the studies of "
        f"{tried[-1]} sources {mean:+.3f}, observed {observed:+.3f}"
    )
    return PowerCurve(sizes=tried, share=tuple(shares), needed=_interpolate(tried, shares, power), note=note)


@dataclass(frozen=True, eq=False)
class _Model:
    """What studies are drawn from.

    Attributes:
        sources: personas that may be one.
        predictors: shape (2, K, K), JS and cosine.
        logit: shape (K, K), log odds of a dyad whose effects are 0.
        sigmas: of source, target and dyad.
        total: replies of a dyad.
    """

    sources: Ints
    predictors: Floats
    logit: Floats
    sigmas: tuple[float, float, float]
    total: int


def _model(fit: MixedFit, dyads: Dyads, js: str, cosine: str) -> _Model:
    predictors = np.stack([dyads.predictors[name] for name in (js, cosine)])
    known = np.isfinite(predictors).all(axis=0) | np.eye(len(dyads.personas), dtype=bool)
    sources = np.flatnonzero(known.all(axis=1))
    if len(sources) < _FEWEST:
        raise UnanswerableError(
            f"{len(sources)} personas have a known {js} and {cosine} to all others; a simulation takes {_FEWEST}"
        )
    logit = fit.intercept + sum(
        fit.slopes[name] * (dyads.predictors[name] - fit.means[name]) / fit.sds[name] for name in (js, cosine)
    )
    sigmas = (fit.sigma_source, fit.sigma_target, fit.sigma_dyad)
    return _Model(sources, predictors, np.asarray(logit), sigmas, round(float(np.nanmedian(dyads.total))))


def _study(model: _Model, size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """A study of `size` sources: rate, JS and cosine of its n dyads, shape (3, n), and weights to leave sources out.

    Returns:
        The values, and the weights of a jackknife, shape (1 + size, n): every dyad, then all but one source's.
    """
    personas = len(model.logit)
    sources = rng.choice(model.sources, size)
    # each source's targets: a random order of all personas, itself last
    order = rng.random((size, personas))
    order[np.arange(size), sources] = np.inf
    target = np.argsort(order, axis=1)[:, : min(personas - 1, _MOST_TARGETS)].ravel()
    drawn = np.repeat(np.arange(size), len(target) // size)  # a persona drawn twice makes two sources
    of_source, of_target, of_dyad = (
        sigma * rng.standard_normal(count)
        for sigma, count in zip(model.sigmas, (size, personas, len(target)), strict=True)
    )
    source = sources[drawn]
    logit = model.logit[source, target] + of_source[drawn] + of_target[target] + of_dyad
    rate = rng.binomial(model.total, expit(logit)) / model.total
    values = np.stack([rate, *model.predictors[:, source, target]])
    return values, np.vstack([np.ones(len(target)), left_out_weights(drawn)])


def _jackknife(values: Floats, weights: Floats) -> tuple[float, float]:
    """The difference, and its standard error by leaving out one source after the other; NaN where there is none."""
    difference, *left_out = _difference(values, weights)
    size = len(left_out)
    return float(difference), math.sqrt((size - 1) * float(np.var(left_out)))


def _difference(values: Floats, weights: Floats) -> Floats:
    """|ρ_JS| − |ρ_cosine| with the rate in every resample, shape (R,)."""
    matrices = np.abs(correlation_matrices(values, weights, "spearman"))
    return np.asarray(matrices[:, 0, 1] - matrices[:, 0, 2])


def _interpolate(sizes: tuple[int, ...], shares: list[float], power: float) -> int | None:
    """Sources at which the share, linear in log S between two sizes, is `power`; rounded up."""
    if shares[-1] < power:
        return None
    if len(shares) == 1:
        return sizes[0]
    (below, above), (low, high) = sizes[len(shares) - 2 : len(shares)], shares[-2:]
    between = (power - low) / (high - low)
    return math.ceil(below * (above / below) ** between)
