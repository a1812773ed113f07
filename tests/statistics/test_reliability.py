"""Reliability of an outcome: known error gives the known reliability, and correlations are corrected by it."""

import numpy as np
import pandas as pd
import pytest

from persona_assets.statistics.reliability import (
    corrected_for_attenuation,
    half_means,
    question_splits,
    seed_agreement,
    spearman_brown,
    split_half,
    together,
)
from persona_assets.statistics.statement import UnanswerableError


def measured(n: int, repetitions: int, error: float, seed: int = 0) -> np.ndarray:
    """Return n true values of variance 1, measured `repetitions` times with this standard deviation of the error."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 1)) + rng.normal(0, error, (n, repetitions))


@pytest.mark.parametrize(("error", "questions"), [(0.5, 4), (1.0, 4), (2.0, 9)])
def test_halves_give_the_reliability_of_the_mean_over_all_questions(error: float, questions: int) -> None:
    found = split_half(measured(4000, questions, error), "pearson")
    if questions % 2 == 0:
        assert found.whole == pytest.approx(1 / (1 + error**2 / questions), abs=0.02)
    # halves of unequal size agree less than equal ones; Spearman–Brown is then slightly too low
    assert found.whole == pytest.approx(1 / (1 + error**2 / questions), abs=0.04)
    assert found.halves == pytest.approx(1 / (1 + error**2 / (questions / 2)), abs=0.04)


def test_a_reliable_outcome_is_told_from_an_unreliable_one_by_ranks() -> None:
    good, bad = (split_half(measured(50, 4, error)).whole for error in (0.2, 3.0))
    assert good > 0.9 > 0.6 > bad


def test_every_split_in_equal_halves_is_used_once() -> None:
    splits = question_splits(4, seed=1)
    assert splits.shape == (3, 4)
    assert (splits.sum(axis=1) == 2).all()
    assert len(np.unique(np.vstack([splits, ~splits]), axis=0)) == 6
    assert question_splits(5, seed=1).shape == (10, 5)
    many = question_splits(20, seed=1)
    assert many.shape == (200, 20)
    assert (many.sum(axis=1) == 10).all()
    np.testing.assert_array_equal(many, question_splits(20, seed=1))


def test_a_question_that_was_not_measured_is_left_out_of_its_half() -> None:
    values = np.array([[1.0, np.nan, 5.0, 7.0]])
    first, second = half_means(values, np.array([[True, True, False, False]]))
    assert (first.item(), second.item()) == (1.0, 6.0)
    with pytest.raises(UnanswerableError, match="half of the questions were not measured in 1 of 5 dyads"):
        split_half(np.vstack([[1.0, 2.0]] * 4 + [[np.nan, 2.0]]))


def test_one_question_has_no_halves() -> None:
    with pytest.raises(UnanswerableError, match="the number of questions is 1; halves need at least 2"):
        split_half(np.ones((5, 1)))


def test_spearman_brown_doubles_the_length() -> None:
    np.testing.assert_allclose(spearman_brown([0.0, 0.5, 1.0, -0.3]), [0, 2 / 3, 1, 0])
    assert np.isnan(spearman_brown(np.nan))


def test_the_icc_is_that_of_a_published_example() -> None:
    # Shrout & Fleiss 1979, table 2: six targets, four judges; ICC(1,1) = .17 and ICC(1,4) = .44 in table 4
    judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    found = seed_agreement(np.array(judged, dtype=np.float64))
    assert (round(found.single, 2), round(found.mean, 2), found.seeds) == (0.17, 0.44, 4)


def test_the_icc_allows_for_unequal_numbers_of_seeds() -> None:
    values = measured(6000, 3, 1.0)
    values[:3000, 2] = np.nan
    found = seed_agreement(values)
    assert found.single == pytest.approx(0.5, abs=0.03)
    assert 2 < found.seeds < 3
    with pytest.raises(UnanswerableError, match="every source has one training seed"):
        seed_agreement(values[:, :1])


def test_seeds_that_agree_no_better_than_chance_have_reliability_0() -> None:
    found = seed_agreement(np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]) + np.array([[0.0], [0.01], [0.0]]))
    assert (found.single, found.mean) == (0.0, 0.0)


def test_errors_of_questions_and_seeds_add_up() -> None:
    assert together(0.9, 0.8) == pytest.approx(0.7)
    assert together(0.3, 0.2) == 0.0
    assert together(0.9, None) == 0.9


def test_the_corrected_correlation_is_that_with_the_true_outcome() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=20_000)
    truth = 0.6 * x + 0.8 * rng.normal(size=len(x))
    by_question = truth[:, None] + rng.normal(0, 2, (len(x), 4))
    seen = np.corrcoef(x, by_question.mean(axis=1))[0, 1]
    corrected = corrected_for_attenuation(seen, split_half(by_question, "pearson").whole)
    assert seen < 0.5
    assert corrected == pytest.approx(0.6, abs=0.03)
    assert corrected_for_attenuation(-0.9, 0.25) == -1.0
    assert np.isnan(corrected_for_attenuation(0.5, 0.0))


def test_a_constant_half_is_an_error_not_a_number() -> None:
    flat = pd.DataFrame({"a": [1.0] * 5, "b": [1.0, 2, 3, 4, 5]}).to_numpy()
    with pytest.raises(UnanswerableError, match="a half of the questions gives every dyad the same value"):
        split_half(flat)
