"""Reliability of a measured outcome: how well it would agree with itself if it were measured again.

Three sources of error are told apart: questions (and the replies to them), by halves of the questions; training seeds,
by the intraclass correlation; and both together. Values are dyads × questions or dyads × seeds; the reliability is that
of the mean over all columns, which is what the statements use.
"""

from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import FEWEST, Coefficient

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

SPEARMAN_BROWN = "Spearman 1910, Br. J. Psychol. 3, 271–295; Brown 1910, Br. J. Psychol. 3, 296–322"
ICC = "Shrout & Fleiss 1979, Psychol. Bull. 86, 420–428"
_MOST_SPLITS = 200


class SplitHalf(NamedTuple):
    """Agreement of two halves of the questions.

    Attributes:
        halves: correlation between the halves, mean over the splits.
        whole: reliability of the mean over all questions, by Spearman–Brown.
        splits: number of splits.
    """

    halves: float
    whole: float
    splits: int


class SeedAgreement(NamedTuple):
    """Agreement of training seeds.

    Attributes:
        single: intraclass correlation of one seed, ICC(1,1).
        mean: that of the mean over the seeds, ICC(1,k).
        seeds: seeds per dyad, a mean that allows for unequal numbers.
    """

    single: float
    mean: float
    seeds: float


def question_splits(questions: int, seed: int, most: int = _MOST_SPLITS) -> Flags:
    """Return splits of the questions in two halves, true for the first: all of them if there are few.

    With an odd number of questions the first half is the smaller one.

    Returns:
        Shape (splits, questions).

    Raises:
        UnanswerableError: there are fewer than two questions.
    """
    if questions < 2:
        raise UnanswerableError(f"the number of questions is {questions}; halves need at least 2")
    half = questions // 2
    if questions <= 12:  # so that the splits of many questions are not listed
        chosen = list(combinations(range(questions), half))
        if questions % 2 == 0:  # a split and its complement are the same
            chosen = [first for first in chosen if 0 in first]
        if len(chosen) <= most:
            return np.array([np.isin(np.arange(questions), first) for first in chosen])
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(questions), (most, 1)), axis=1)
    return np.asarray(order < half)


def half_means(by_question: Floats, splits: Flags) -> tuple[Floats, Floats]:
    """Return the means over both halves of the questions.

    Args:
        by_question: shape (n, Q), NaN where a question was not measured.
        splits: shape (splits, Q).

    Returns:
        Two arrays (splits, n); NaN where no question of a half was measured.
    """
    known = np.isfinite(by_question).astype(np.float64)
    values = np.nan_to_num(by_question)
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = (half.astype(np.float64) @ values.T / (half @ known.T) for half in (splits, ~splits))
    return np.asarray(first), np.asarray(second)


def split_half(by_question: Floats, coefficient: Coefficient = "spearman", seed: int = 42) -> SplitHalf:
    """Return the correlation of two halves of the questions, and the reliability of all questions together.

    r is the mean over all splits (over 200 random ones from eleven questions on); the reliability is 2r / (1 + r)
    (Spearman 1910; Brown 1910). A negative r gives a reliability of 0.

    Args:
        by_question: shape (n, Q), the outcome of every dyad and question.

    Raises:
        UnanswerableError: there are fewer than two questions or four dyads, or a half was not measured in a dyad or is
            constant.
    """
    splits = question_splits(by_question.shape[1], seed)
    first, second = half_means(by_question, splits)
    if (n := len(by_question)) < FEWEST:
        raise UnanswerableError(f"there are {n} dyads; a correlation needs at least {FEWEST}")
    if unknown := int((~np.isfinite(first + second)).any(axis=0).sum()):
        raise UnanswerableError(f"half of the questions were not measured in {unknown} of {n} dyads")
    halves = float(np.mean([_correlation(a, b, coefficient) for a, b in zip(first, second, strict=True)]))
    if not np.isfinite(halves):
        raise UnanswerableError("a half of the questions gives every dyad the same value")
    return SplitHalf(halves, float(spearman_brown(np.array(halves))), len(splits))


def spearman_brown(halves: Any) -> Floats:
    """Return the reliability of a whole whose halves correlate at r, 2r / (1 + r); 0 for r ≤ 0."""
    r = np.asarray(halves, dtype=np.float64)
    return np.asarray(np.where(np.isnan(r), np.nan, 2 * np.maximum(r, 0.0) / (1 + np.maximum(r, 0.0))))


def seed_agreement(by_seed: Floats) -> SeedAgreement:
    """Return the intraclass correlation over training seeds, one-way random effects (Shrout & Fleiss 1979, case 1).

    One-way, because seed 42 of one source has nothing to do with seed 42 of another. With MSB and MSW the mean squares
    between and within dyads and k seeds, ICC(1,1) = (MSB − MSW) / (MSB + (k − 1) MSW) and ICC(1,k) = (MSB − MSW) / MSB,
    both at least 0. For unequal numbers of seeds k is (N − Σ k_d² / N) / (n − 1).

    Args:
        by_seed: shape (n, M), the outcome of every dyad and seed; NaN where a source has fewer seeds.

    Raises:
        UnanswerableError: no dyad has two seeds, there are fewer than two dyads, or the values are constant.
    """
    count = np.isfinite(by_seed).sum(axis=1)
    values = by_seed[count > 0]
    count = count[count > 0]
    total, n = int(count.sum()), len(count)
    if n < 2 or total <= n:
        raise UnanswerableError("every source has one training seed, so the agreement of seeds is not known")
    means = np.nanmean(values, axis=1)
    within = float(np.nansum((values - means[:, None]) ** 2)) / (total - n)
    between = float((count * (means - np.nansum(values) / total) ** 2).sum()) / (n - 1)
    k = (total - float((count**2).sum()) / total) / (n - 1)
    if between <= 0:
        raise UnanswerableError("the outcome is the same in every dyad")
    gap = max(0.0, between - within)
    return SeedAgreement(gap / (gap + k * within) if gap else 0.0, gap / between, k)


def together(of_questions: float, of_seeds: float | None) -> float:
    """Return the reliability over questions and seeds: 1 less both shares of error, at least 0."""
    return of_questions if of_seeds is None else max(0.0, of_questions + of_seeds - 1.0)


def corrected_for_attenuation(correlation: Any, reliability: Any) -> Floats:
    """Return ρ / √reliability within [−1, 1]: the correlation with an outcome without error (Spearman 1904).

    Only the outcome is corrected, so the errors of the predictor still hold the correlation down. NaN where the
    reliability is 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(np.asarray(reliability, dtype=np.float64))
        return np.asarray(np.where(root > 0, np.clip(np.asarray(correlation) / root, -1.0, 1.0), np.nan))


def _correlation(a: Floats, b: Floats, coefficient: Coefficient) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    test = stats.spearmanr if coefficient == "spearman" else stats.pearsonr
    return float(test(a, b).statistic)
