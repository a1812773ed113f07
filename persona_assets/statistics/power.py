"""How many sources a study needs, to tell JS from a cosine as the better predictor of leakage.

Studies are simulated from the mixed logistic model that was fitted to the observed one: S sources, drawn from the
personas that are known, their dyads to the other personas, new effects of sources, targets and dyads, and binomial
counts. A study sees the difference where its delete-one-source jackknife does.
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

_MOST_TARGETS = 20  # of a source: bounds the cost of a study
_FEWEST = 3  # personas to draw sources from


@dataclass(frozen=True, kw_only=True)
class PowerCurve:
    """How often simulated studies see the difference, by number of sources.

    Attributes:
        sizes: numbers of sources that were tried, ascending.
        share: share of the studies of that size that see the difference, one a size.
        needed: sources for the power asked for; None where the largest size does not reach it.
        expected: mean difference in the studies of the largest size.
        note: what was assumed.
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
    matrix = correlation_matrices(
        np.stack([dyads.rate, dyads.at(js), dyads.at(cosine)]), np.ones((1, dyads.n)), "spearman"
    )
    observed = float(np.abs(matrix[0, 0, 1]) - np.abs(matrix[0, 0, 2]))
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
    others = len(dyads.personas) - 1
    targets = (
        f"{_MOST_TARGETS} targets a source, of {others}" if others > _MOST_TARGETS else f"{others} targets a source"
    )
    note = (
        f"assumes that the fitted mixed logistic model is true; {simulations} simulated studies a size, each of "
        f"{targets}, and sources drawn from {len(model.sources)} personas with replacement; seen by a "
        f"delete-one-source jackknife, t(sources − 1), at {1 - level:.2g} two-sided; mean difference in the studies of "
        f"{tried[-1]} sources {mean:+.3f}, observed {observed:+.3f}"
    )
    needed = _interpolate(tried, shares, power)
    return PowerCurve(sizes=tried, share=tuple(shares), needed=needed, expected=float(mean), note=note)


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


def _study(model: _Model, size: int, rng: np.random.Generator) -> tuple[Floats, Ints]:
    """A study of `size` sources: rate, JS and cosine of its n dyads, shape (3, n), and their sources, shape (n,)."""
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
    return values, drawn


def _jackknife(values: Floats, source: Ints) -> tuple[float, float]:
    """The difference, and its standard error by leaving out one source after the other; NaN where there is none."""
    correlations = np.abs(left_out_spearman(values, source))
    difference, *left_out = correlations[:, 0] - correlations[:, 1]
    return float(difference), math.sqrt((len(left_out) - 1) * float(np.var(left_out)))


def left_out_spearman(values: Floats, source: Ints) -> Floats:
    """Spearman's ρ of the first variable with each of the others, with all sources and without each in turn.

    As `weighted.correlation_matrices` of `left_out_weights`, but over the values that occur rather than over dyads: a
    rate of 200 replies has 201 at most, and thousands of studies are asked.

    Args:
        values: shape (m, n), finite.
        source: shape (n,), numbered from 0 to S − 1.

    Returns:
        Shape (1 + S, m − 1), all sources first; NaN where a variable is constant.
    """
    # row 0 leaves out nobody, row 1 + s source s
    outcome, *predictors = (_ranks(x, source + 1) for x in values)
    columns = []
    for predictor in predictors:
        # how often each value of the one meets each value of the other: at most n of them do
        together = csr_array((np.ones(len(source)), (predictor.place, outcome.place)))
        products = (predictor.centred * (together @ outcome.centred.T).T).sum(axis=1)
        # those of the dyads that are left out do not belong
        own = outcome.centred[source + 1, outcome.place] * predictor.centred[source + 1, predictor.place]
        products -= np.bincount(source + 1, own, len(products))
        with np.errstate(invalid="ignore", divide="ignore"):
            columns.append(products / np.sqrt(outcome.squares * predictor.squares))
    return np.stack(columns, axis=1)


class _Ranks(NamedTuple):
    """Mid-ranks of the G values that occur, in each of R samples.

    Attributes:
        place: shape (n,), which of the values a dyad has.
        centred: shape (R, G), rank less the mean rank.
        squares: shape (R,), their sum of squares over the sample's dyads.
    """

    place: Ints
    centred: Floats
    squares: Floats


def _ranks(x: Floats, left_out_in: Ints) -> _Ranks:
    """Ranks in the sample of all dyads (0) and in those that leave out the dyads of which `left_out_in` names them."""
    values, place = np.unique(x, return_inverse=True)
    samples = left_out_in.max() + 1
    gone = np.bincount(left_out_in * len(values) + place, minlength=samples * len(values)).reshape(samples, -1)
    counts = np.bincount(place) - gone
    # a rank's mean is (n + 1) / 2, n the sample's dyads
    centred = np.cumsum(counts, axis=1) - counts / 2 - counts.sum(axis=1, keepdims=True) / 2
    return _Ranks(place, centred, (counts * centred**2).sum(axis=1))


def _interpolate(sizes: tuple[int, ...], shares: list[float], power: float) -> int | None:
    """Sources at which the share, linear in log S between two sizes, is `power`; rounded up."""
    if shares[-1] < power:
        return None
    if len(shares) == 1:
        return sizes[0]
    (below, above), (low, high) = sizes[len(shares) - 2 : len(shares)], shares[-2:]
    between = (power - low) / (high - low)
    # the power met exactly is no source more
    return math.ceil(round(below * math.exp(between * math.log(above / below)), 9))
