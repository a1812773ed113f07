"""Simulated studies whose personas come in kinds, with known true values, for `benchmarks.calibration_kinds`.

Every kind has a centre, and a persona lies `spread` around the centre of its kind. JS is the distance of two personas,
cosine their likeness in a space that shares some of the dimensions. Kinds leak to each other for reasons of their own:

    η_d = −1.5 + a_source + b_target + c_(kind of source, kind of target) + e_d − s_js JS_d + s_cos cosine_d,
    c ~ N(0, amplitude²), JS and cosine in units of their standard deviation within pairs of kinds.

The outcomes are made from η in the way in which a study measures them: 20 replies a dyad, or log-probabilities of
five replies.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, log_expit

from persona_assets.statistics.dyads import Dyads

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OUTCOMES = ("rate", "rate, 3 of 4 are 0", "expected_rate", "log_prob_gain")
JS, COSINE, OTHER = "js", "cosine_study_layer0", "unrelated"
TOTAL, REPLIES = 20, 5
LEVEL, RARER, BASE = -1.5, 3.0, -6.0
SOURCE_SD, TARGET_SD, DYAD_SD, REPLY_SD = 1.2, 0.6, 0.6, 1.0
SHARED, OWN = 3, 2  # numbers of dimensions that JS and cosine share, and that each has alone
_LARGE = 120  # personas of the study that stands for the truth


@dataclass(frozen=True)
class Scenario:
    """A design and a truth.

    Attributes:
        personas, sources: their numbers; the first personas are sources.
        kinds: number of kinds, dealt out to the personas in turn; 0 for the kinds of the published study.
        spread: sd of personas around the centre of their kind; centres have sd 1.
        amplitude: sd of what a kind leaks to another, on the logit scale.
        js, cosine: slopes.
    """

    personas: int
    sources: int
    kinds: int
    spread: float
    amplitude: float
    js: float = 0.0
    cosine: float = 0.0

    @property
    def kind(self) -> Ints:
        """Return the kind of every persona, shape (K,)."""
        if not self.kinds:  # seven professions, two fictional, one nationality and the baseline; five sources
            return np.array([0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 3])[: self.personas]
        return np.arange(self.personas) % self.kinds


@dataclass(frozen=True, eq=False)
class Study:
    """One simulated study: dyads, matrices and outcomes, shape (4, n) in the order of `OUTCOMES`."""

    kind: Ints
    source: Ints
    target: Ints
    matrices: dict[str, Floats]
    outcomes: Floats

    def dyads(self, outcome: int) -> Dyads:
        """Return the dyads with one of the outcomes."""
        values = self.outcomes[outcome]
        counts = outcome < 2
        total = np.full(len(values), float(TOTAL) if counts else np.nan)
        names = tuple(f"p{number}" for number in range(len(self.kind)))
        kinds = tuple(f"kind {number}" for number in self.kind)
        found = values * TOTAL if counts else total
        return Dyads(names, self.source, self.target, values, found, total, self.matrices, kinds)


class World:
    """The centres of the kinds and what they leak to each other, drawn once; studies are drawn from it."""

    def __init__(self, rng: np.random.Generator, scenario: Scenario) -> None:
        self.scenario = scenario
        kinds = int(scenario.kind.max()) + 1
        self.centres = [rng.normal(size=(kinds, size)) for size in (SHARED, OWN, OWN, SHARED + OWN)]
        self.block = scenario.amplitude * rng.normal(size=(kinds, kinds))

    def study(self, rng: np.random.Generator, times: int = 1) -> Study:
        """Draw a study with `times` as many personas and sources of every kind."""
        at, sources = self.scenario.kind, self.scenario.sources
        kind = np.concatenate([np.repeat(at[:sources], times), np.repeat(at[sources:], times)])
        places = [
            centre[kind] + self.scenario.spread * rng.normal(size=(len(kind), centre.shape[1]))
            for centre in self.centres
        ]
        shared, of_js, of_cosine, alone = places
        js, cosine = _distances(np.hstack([shared, of_js])), -_distances(np.hstack([shared, of_cosine]))
        source, target = np.divmod(np.arange(sources * times * len(kind)), len(kind))
        source, target = source[source != target], target[source != target]
        cell = kind[source] * 100 + kind[target]
        eta = LEVEL + rng.normal(0, SOURCE_SD, len(kind))[source] + rng.normal(0, TARGET_SD, len(kind))[target]
        eta += self.block[kind[source], kind[target]] + rng.normal(0, DYAD_SD, len(source))
        for slope, matrix in ((-self.scenario.js, js), (self.scenario.cosine, cosine)):
            if slope:
                eta += slope * _within_units(matrix[source, target], cell)
        matrices = {JS: js, COSINE: cosine, OTHER: _distances(alone)}
        for matrix in matrices.values():
            np.fill_diagonal(matrix, np.nan)
        replies = eta + rng.normal(0, REPLY_SD, (REPLIES, len(eta)))
        outcomes = [
            rng.binomial(TOTAL, expit(eta)) / TOTAL,
            rng.binomial(TOTAL, expit(eta - RARER)) / TOTAL,
            expit(replies).mean(axis=0),
            log_expit(replies).mean(axis=0) - BASE,
        ]
        return Study(kind, source, target, matrices, np.array(outcomes))

    def truths(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Return ρ of every outcome with JS and with cosine in a large study, (4, 2), overall and within kinds."""
        large = self.study(rng, times=_LARGE // self.scenario.personas)
        at = np.array([large.matrices[name][large.source, large.target] for name in (JS, COSINE)])
        outcomes, predictors = (stats.rankdata(values, axis=1) for values in (large.outcomes, at))
        cells = (np.zeros_like(large.source), large.kind[large.source] * 100 + large.kind[large.target])
        overall, within = (
            np.array([_unit(row, cell) for row in outcomes]) @ np.array([_unit(row, cell) for row in predictors]).T
            for cell in cells
        )
        return overall, within


def _unit(values: Floats, cell: Ints) -> Floats:
    left = values - _means(values, cell)
    return np.asarray(left / np.linalg.norm(left))


def _within_units(values: Floats, cell: Ints) -> Floats:
    left = values - _means(values, cell)
    return np.asarray((values - values.mean()) / np.sqrt((left**2).mean()))


def _means(values: Floats, cell: Ints) -> Floats:
    number = np.unique(cell, return_inverse=True)[1]
    return np.asarray((np.bincount(number, values) / np.bincount(number))[number])


def _distances(places: Floats) -> Floats:
    squares = (places**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares - 2 * places @ places.T, 0.0)))
