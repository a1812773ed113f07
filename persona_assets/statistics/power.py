"""Power simulation: how many sources a study needs to detect whether JS or a cosine predicts leakage better.

Studies are simulated from the mixed model fitted to the observed data: S sources drawn from the known personas, their
dyads with the other personas, new effects of sources, targets and dyads, and binomial counts (for a continuous outcome
no counts: the effect of a dyad includes its measurement error). A study detects the difference if its delete-one-source
jackknife interval excludes 0 on the observed side.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse import csr_array
from scipy.special import expit

from persona_assets.statistics.binomial import MixedFit
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import correlation_matrices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_TARGETS = 20  # per source; limits the cost of a study
_FEWEST = 3  # personas to draw sources from


@dataclass(frozen=True, kw_only=True)
class PowerCurve:
    """Power of simulated studies by number of sources.

    Attributes:
        sizes: simulated numbers of sources, ascending.
        share: fraction of the studies of each size that detect the difference.
        needed: number of sources for the requested power; None if the largest size does not reach it.
        expected: mean difference in the studies of the largest size.
        note: assumptions, in words.
    """

    sizes: tuple[int, ...]
    share: tuple[float, ...]
    needed: int | None
    expected: float
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
    """Simulate the power to detect |ρ_JS| − |ρ_cosine| by number of sources, up to the first size with enough power.

    A study detects the difference θ if |θ| > t(S − 1) · √((S − 1) / S · Σ (θ_i − mean θ)²), θ_i without source i (Tukey
    1958), two-sided at 1 − level, and θ has the sign of the observed difference. Power is interpolated linearly in
    log S between sizes.

    Args:
        fit: fit of the counts on `js` and `cosine`, from `binomial_mixed`.
        dyads: the observed dyads; sources are drawn with replacement from the personas whose `js` and `cosine` to all
            other personas are known.
        js, cosine: names of the two predictors.
        simulations: number of studies per size.

    Raises:
        UnanswerableError: there are fewer than three personas to draw from, or the observed difference is 0 or
            undefined.
    """
    observed = _observed(dyads, js, cosine)
    model = _model(fit, dyads, js, cosine)
    rng = np.random.default_rng(seed)
    shares: list[float] = []
    for size in sizes:
        share, mean = _simulated(model, size, np.sign(observed), level, simulations, rng)
        shares.append(share)
        if shares[-1] >= power:
            break
    tried = sizes[: len(shares)]
    others = len(dyads.personas) - 1
    targets = (
        f"{_MOST_TARGETS} of {others} targets per source" if others > _MOST_TARGETS else f"{others} targets per source"
    )
    kind = "logistic" if model.total else "linear"
    note = (
        f"assumes that the fitted mixed {kind} model is true; {simulations} simulated studies per size, each with "
        f"{targets} and sources drawn with replacement from {len(model.sources)} personas; detection by a "
        f"delete-one-source jackknife, t(sources − 1), two-sided at {1 - level:.2g}; mean difference in the studies of "
        f"{tried[-1]} sources {mean:+.3f}, observed {observed:+.3f}"
    )
    needed = _interpolate(tried, shares, power)
    return PowerCurve(sizes=tried, share=tuple(shares), needed=needed, expected=float(mean), note=note)


def power_of(
    fit: MixedFit,
    dyads: Dyads,
    js: str,
    cosine: str,
    size: int,
    *,
    level: float = 0.95,
    seed: int = 42,
    simulations: int = 200,
) -> float:
    """Simulate the power of studies of one size; arguments and errors as in `sources_needed`."""
    model, sign = _model(fit, dyads, js, cosine), np.sign(_observed(dyads, js, cosine))
    return _simulated(model, size, sign, level, simulations, np.random.default_rng(seed))[0]


def _observed(dyads: Dyads, js: str, cosine: str) -> float:
    """Return |ρ_JS| − |ρ_cosine| of the observed dyads."""
    matrix = correlation_matrices(
        np.stack([dyads.outcome, dyads.at(js), dyads.at(cosine)]), np.ones((1, dyads.n)), "spearman"
    )
    observed = float(np.abs(matrix[0, 0, 1]) - np.abs(matrix[0, 0, 2]))
    if not np.isfinite(observed) or observed == 0:
        raise UnanswerableError("there is no difference between the two predictors to detect")
    return observed


def _simulated(
    model: "_Model", size: int, sign: float, level: float, simulations: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the fraction of simulated studies that detect a difference of this sign, and their mean difference."""
    critical = float(stats.t.ppf((1 + level) / 2, size - 1))
    studies = [_jackknife(*_study(model, size, rng)) for _ in range(simulations)]
    differences, errors = np.array(studies).T
    mean = float(np.nanmean(differences)) if np.isfinite(differences).any() else math.nan
    # A study whose difference or error is NaN counts as no detection.
    return float(np.mean(sign * differences > critical * errors)), mean


@dataclass(frozen=True, eq=False)
class _Model:
    """Model that studies are simulated from.

    Attributes:
        sources: indices of the personas that can be drawn as sources.
        predictors: shape (2, K, K), JS and cosine.
        logit: shape (K, K), log odds (or the expected outcome) of a dyad whose effects are 0.
        sigmas: standard deviations of the effects of source, target and dyad.
        total: replies per dyad; 0 for a continuous outcome.
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
            f"{len(sources)} personas have a known {js} and {cosine} to all others; a simulation needs {_FEWEST}"
        )
    logit = fit.intercept + sum(
        fit.slopes[name] * (dyads.predictors[name] - fit.means[name]) / fit.sds[name] for name in (js, cosine)
    )
    sigmas = (fit.sigma_source, fit.sigma_target, fit.sigma_dyad)
    total = 0 if np.isnan(dyads.total).all() else round(float(np.nanmedian(dyads.total)))
    return _Model(sources, predictors, np.asarray(logit), sigmas, total)


def _study(model: _Model, size: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """Simulate a study of `size` sources: rate, JS and cosine of its n dyads, shape (3, n), and their sources (n,)."""
    personas = len(model.logit)
    sources = rng.choice(model.sources, size)
    # The targets of a source are the first personas in a random order that puts the source itself last.
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
    # Only ranks are used, so a continuous outcome stays on the scale of the model.
    outcome = rng.binomial(model.total, expit(logit)) / model.total if model.total else logit
    values = np.stack([outcome, *model.predictors[:, source, target]])
    return values, drawn


def _jackknife(values: Floats, source: Ints) -> tuple[float, float]:
    """Return the difference and its delete-one-source jackknife standard error; NaN if undefined."""
    correlations = np.abs(left_out_spearman(values, source))
    difference, *left_out = correlations[:, 0] - correlations[:, 1]
    return float(difference), math.sqrt((len(left_out) - 1) * float(np.var(left_out)))


def left_out_spearman(values: Floats, source: Ints) -> Floats:
    """Return Spearman's ρ of the first variable with each other variable, with all sources and without each in turn.

    Equivalent to `weighted.correlation_matrices` with `left_out_weights`, but loops over distinct values instead of
    dyads, which is faster for thousands of studies: a rate of 200 replies has at most 201 values.

    Args:
        values: shape (m, n), finite.
        source: shape (n,), numbered from 0 to S − 1.

    Returns:
        Shape (1 + S, m − 1), all sources first; NaN if a variable is constant.
    """
    # Row 0 leaves out no source, row 1 + s leaves out source s.
    outcome, *predictors = (_ranks(x, source + 1) for x in values)
    columns = []
    for predictor in predictors:
        # Sparse contingency table of the two variables' values, with at most n nonzero cells.
        together = csr_array((np.ones(len(source)), (predictor.place, outcome.place)))
        products = (predictor.centred * (together @ outcome.centred.T).T).sum(axis=1)
        # Subtract the products of the dyads that are left out.
        own = outcome.centred[source + 1, outcome.place] * predictor.centred[source + 1, predictor.place]
        products -= np.bincount(source + 1, own, len(products))
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(products / np.sqrt(outcome.squares * predictor.squares))
    return np.stack(columns, axis=1)


class _Ranks(NamedTuple):
    """Mid-ranks of the G distinct values in each of R samples.

    Attributes:
        place: shape (n,), index of each dyad's value.
        centred: shape (R, G), rank minus the mean rank.
        squares: shape (R,), sum of squares of `centred` over the sample's dyads.
    """

    place: Ints
    centred: Floats
    squares: Floats


def _ranks(x: Floats, left_out_in: Ints) -> _Ranks:
    """Return ranks in the sample of all dyads (0) and in the samples s without the dyads where `left_out_in` is s."""
    values, place = np.unique(x, return_inverse=True)
    samples = left_out_in.max() + 1
    gone = np.bincount(left_out_in * len(values) + place, minlength=samples * len(values)).reshape(samples, -1)
    counts = np.bincount(place) - gone
    # The mean rank is (n + 1) / 2 with n the sample's dyads.
    centred = np.cumsum(counts, axis=1) - counts / 2 - counts.sum(axis=1, keepdims=True) / 2
    return _Ranks(place, centred, (counts * centred**2).sum(axis=1))


def _interpolate(sizes: tuple[int, ...], shares: list[float], power: float) -> int | None:
    """Return the number of sources with this power, interpolated linearly in log S and rounded up."""
    if shares[-1] < power:
        return None
    if len(shares) == 1:
        return sizes[0]
    (below, above), (low, high) = sizes[len(shares) - 2 : len(shares)], shares[-2:]
    between = (power - low) / (high - low)
    # Rounding before ceil avoids an extra source if the power is met exactly.
    return math.ceil(round(below * math.exp(between * math.log(above / below)), 9))
