"""Reliability of each outcome, correlations corrected for it, and the variance components behind it."""

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS, answered
from persona_assets.statistics.reliability import (
    ICC,
    SPEARMAN_BROWN,
    SeedAgreement,
    SplitHalf,
    corrected_for_attenuation,
    half_means,
    question_splits,
    seed_agreement,
    spearman_brown,
    split_half,
    together,
)
from persona_assets.statistics.replies import Replies
from persona_assets.statistics.resampling import percentile_interval
from persona_assets.statistics.statement import Statement, UnanswerableError
from persona_assets.statistics.variance_components import EFFECTS, HENDERSON, RESIDUAL, variance_components
from persona_assets.statistics.weighted import correlation_matrices

Floats = NDArray[np.float64]

HALVES = "reliability, halves of questions"
SEEDS = "reliability, training seeds"
BOTH = "reliability, questions and seeds"
CORRECTED = "spearman corrected for attenuation"
COMPONENT = "variance component: "
_SPLITS = 10  # in every resample of the sources
_ATTENUATION = "Spearman 1904, Am. J. Psychol. 15, 72–101"


def reliabilities(every: Sequence[Inputs]) -> list[Statement]:
    """Return the reliability of every outcome whose replies are known, and the correlations corrected for it."""
    return [row for inputs in every if inputs.replies is not None for row in _of_outcome(inputs, inputs.replies)]


def _of_outcome(inputs: Inputs, replies: Replies) -> list[Statement]:
    measured = _Measured(inputs, replies)
    about = partial(Statement, family="noise", outcome=inputs.dyads.outcome_name, view="check", n=inputs.dyads.n)

    def halves() -> dict[str, object]:
        found = measured.halves
        how = "all" if len(measured.splits) <= found.splits else "random"
        note = f"ρ {found.halves:.3f} between halves, mean over {found.splits} splits ({how}); {SPEARMAN_BROWN}"
        return {"estimate": found.whole, "note": note}

    def seeds() -> dict[str, object]:
        found = measured.seeds
        note = f"ICC(1,k) of the mean over {found.seeds:.3g} seeds; of one seed {found.single:.3f}; {ICC}"
        return {"estimate": found.mean, "note": note}

    rows = [
        answered(partial(about, quantity=HALVES), "check", halves),
        answered(partial(about, quantity=SEEDS), "check", seeds),
        answered(partial(about, quantity=BOTH), "check", measured.both),
    ]
    for predictor in (JS, inputs.primary):
        if predictor in inputs.looks:
            named = partial(about, quantity=CORRECTED, predictor=predictor, seed=inputs.settings.seed)
            rows.append(answered(named, "check", partial(measured.corrected, predictor)))
    return rows


class _Measured:
    """Reliabilities of one outcome, computed once."""

    def __init__(self, inputs: Inputs, replies: Replies) -> None:
        self.inputs, self.replies = inputs, replies

    @cached_property
    def halves(self) -> SplitHalf:
        return split_half(self.replies.by_question, "spearman", self.inputs.settings.seed)

    @cached_property
    def seeds(self) -> SeedAgreement:
        return seed_agreement(self.replies.by_seed)

    @cached_property
    def splits(self) -> NDArray[np.bool_]:
        return question_splits(self.replies.by_question.shape[1], self.inputs.settings.seed, _SPLITS)

    @property
    def _of_seeds(self) -> float | None:
        try:
            return self.seeds.mean
        except UnanswerableError:
            return None

    def both(self) -> dict[str, object]:
        of_seeds = self._of_seeds
        alone = "that of the questions alone: every source has one training seed, whose error is not known"
        note = alone if of_seeds is None else "1 less the error of questions and of seeds"
        return {"estimate": together(self.halves.whole, of_seeds), "note": note}

    def corrected(self, predictor: str) -> dict[str, object]:
        """Return ρ / √reliability with an interval over sources; halves and ρ are of the same resample."""
        sample = self.inputs.sample(predictor)
        sample.require_varying(predictor)
        of_seeds, place = self._of_seeds, sample.variable(predictor)
        whole = together(self.halves.whole, of_seeds)
        if whole <= 0:
            raise UnanswerableError("the reliability is estimated as 0")
        kept = np.isfinite(np.stack([self.inputs.dyads.at(name) for name in sample.predictors])).all(axis=0)
        halves = np.vstack(half_means(self.replies.by_question[kept], self.splits))
        way, first = sample.ways[0], 1 + len(sample.predictors)
        values, weights = sample.drawn(way, halves)
        count = len(self.splits)

        def between(one: int, other: int) -> Floats:
            return correlation_matrices(values[[one, other]], weights, "spearman")[:, 0, 1]

        rho = between(0, place)
        agree = [between(first + split, first + count + split) for split in range(count)]
        reliability = spearman_brown(np.mean(agree, axis=0))
        if of_seeds is not None:
            reliability = np.maximum(0.0, reliability + of_seeds - 1.0)
        samples = corrected_for_attenuation(rho, reliability)
        resampled = "sources" if way == "sources" else "sources and targets"
        method = f"bootstrap over {resampled}, {len(samples):,} resamples, each with its own reliability"
        structure = "a source with all its dyads is one cluster"
        estimate = float(sample.observed["spearman"][0, place])
        return {
            "estimate": float(corrected_for_attenuation(estimate, whole)),
            "interval": percentile_interval(samples, sample.settings.level, method, structure, _ATTENUATION),
            "note": "corrected for the outcome's error only, not the predictor's",
        }


def components(every: Sequence[Inputs]) -> list[Statement]:
    """Return the variance components of the gain in log-probability; of the verdict's outcome if there is no gain."""
    known = [inputs for inputs in every if inputs.replies is not None]
    chosen = next((inputs for inputs in known if inputs.dyads.outcome_name == "log_prob_gain"), None)
    if (inputs := chosen or next(iter(known), None)) is None or inputs.replies is None:
        return []
    about = partial(Statement, family="noise", outcome=inputs.dyads.outcome_name, view="check")
    try:
        found = variance_components(inputs.replies.table)
    except UnanswerableError as error:
        return [about(quantity=f"{COMPONENT}source", unanswerable=str(error))]
    rows = []
    for name in (*EFFECTS, RESIDUAL):
        if (other := found.confounded.get(name)) is not None:
            why = f"it has the same levels as {other} in these data, which includes it"
            rows.append(about(quantity=f"{COMPONENT}{name}", unanswerable=why))
        elif name in found.variance:
            below = "; the estimate was below 0" if name in found.below_zero else ""
            share = found.variance[name] / found.total if found.total else 0.0
            note = f"{share:.1%} of the total, {found.levels[name]:,} levels{below}; {HENDERSON}"
            rows.append(
                about(quantity=f"{COMPONENT}{name}", estimate=found.variance[name], n=found.levels[name], note=note)
            )
    return rows
