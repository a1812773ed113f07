"""Measurement error, against simulations whose truth is known."""

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics import chunks as chunked
from persona_assets.statistics.noise import (
    explained_by_noise,
    noise_interval,
    noisy_correlations,
    question_draws,
    rate_draws,
    reliability,
)
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import Coefficient

Floats = NDArray[np.float64]


@pytest.fixture(autouse=True)
def no_library_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def counts(rng: np.random.Generator, rate: Floats, total: int = 20) -> tuple[Floats, Floats]:
    return rng.binomial(total, rate).astype(float), np.full(len(rate), float(total))


def test_a_rate_of_zero_has_noise() -> None:
    found, total = np.array([0.0, 20, 7, 0]), np.array([20.0, 20, 20, 200])
    draws = rate_draws(found, total, 20_000, seed=0)
    assert draws.shape == (20_000, 4)
    assert draws.min() >= 0
    assert draws.max() <= 1
    # moments of Beta(found + ½, total − found + ½)
    a, b = found + 0.5, total - found + 0.5
    sd = np.sqrt(a * b / (a + b) ** 2 / (a + b + 1))
    assert draws.std(axis=0) == pytest.approx(sd, rel=0.05)
    assert draws.mean(axis=0) == pytest.approx(a / (a + b), abs=0.001)
    assert draws[:, 0].std() > 5 * draws[:, 3].std() > 0


def test_questions_are_drawn_jointly_for_all_dyads() -> None:
    rng = np.random.default_rng(1)
    of_dyad, of_question = rng.standard_normal(6), rng.standard_normal(30)
    draws = question_draws(of_dyad + of_question[:, None], 4000, seed=2)
    assert draws.shape == (4000, 6)
    assert draws - of_dyad == pytest.approx(np.repeat(draws[:, :1] - of_dyad[0], 6, axis=1), abs=1e-12)
    # the bootstrap variance of a mean is known: biased variance / Q
    assert draws[:, 0].var() == pytest.approx(of_question.var() / 30, rel=0.1)
    assert draws[:, 0].mean() == pytest.approx((of_dyad[0] + of_question).mean(), abs=0.01)


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: rate_draws(np.array([0.0, 3, 9]), np.array([10.0, 10, 10]), 50, seed),
        lambda seed: question_draws(np.random.default_rng(0).random((8, 5)), 50, seed),
    ],
)
def test_a_seed_gives_the_same_draws_again(draw: Callable[[int], Floats]) -> None:
    np.testing.assert_array_equal(draw(3), draw(3))
    assert not np.array_equal(draw(3), draw(4))


@pytest.mark.parametrize("coefficient", ["spearman", "pearson"])
def test_correlations_of_draws_are_scipys(coefficient: Coefficient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "_NUMBERS", 100)  # several chunks
    rng = np.random.default_rng(3)
    x = rng.standard_normal((23, 12)).round(1)
    y = (x + rng.standard_normal((23, 12))).round(1)
    y[4] = 0.3
    x[9] = 1e6 + 0.1
    test = stats.spearmanr if coefficient == "spearman" else stats.pearsonr
    expected = [np.nan if i in (4, 9) else test(x[i], y[i]).statistic for i in range(23)]
    np.testing.assert_allclose(noisy_correlations(x, y, coefficient), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("coefficient", ["spearman", "pearson"])
def test_reliability_and_the_true_correlation_are_recovered(coefficient: Coefficient) -> None:
    """Measure latent x with normal errors and latent y by 20 replies; the correlation of x and y is known."""
    rng = np.random.default_rng(4)
    n = 4000
    latent = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], size=n).T
    error = rng.standard_normal((60, n)) * 0.7
    x, rate = latent[0], stats.norm.cdf(0.5 * latent[1])
    by_question = x + error * np.sqrt(60) + 5 * rng.standard_normal((60, 1))
    measured = by_question.mean(axis=0)
    found, total = counts(rng, rate)
    of_x = reliability(measured, question_draws(by_question, 200, seed=5), coefficient)
    of_y = reliability(found / total, rate_draws(found, total, 200, seed=6), coefficient)

    test = stats.spearmanr if coefficient == "spearman" else stats.pearsonr
    observed, truth = test(measured, found / total).statistic, test(x, rate).statistic
    # reliability is the squared correlation of measured and true values
    assert of_x == pytest.approx(test(measured, x).statistic ** 2, abs=0.03)
    assert of_y == pytest.approx(test(found / total, rate).statistic ** 2, abs=0.03)
    corrected, share = explained_by_noise(observed, of_x, of_y)
    assert truth - observed > 0.1
    assert corrected == pytest.approx(truth, abs=0.03)
    assert share == pytest.approx((truth - observed) / (1 - observed), abs=0.08)


@pytest.mark.parametrize("coefficient", ["spearman", "pearson"])
def test_an_error_common_to_all_dyads_costs_no_reliability(coefficient: Coefficient) -> None:
    rng = np.random.default_rng(7)
    values = rng.standard_normal(40)
    assert reliability(values, values + rng.standard_normal((100, 1)), coefficient) == pytest.approx(1, abs=1e-12)


def test_a_floor_of_rates_makes_their_ranks_seem_less_reliable_never_more() -> None:
    rng = np.random.default_rng(10)
    for mean, at_floor, too_low in ((-0.5, 0.11, 0.02), (-1.5, 0.38, 0.08), (-2.2, 0.62, 0.45)):
        rate = stats.norm.cdf(mean + rng.standard_normal(4000))
        found, total = counts(rng, rate)
        assert (found == 0).mean() == pytest.approx(at_floor, abs=0.03)
        share = reliability(found / total, rate_draws(found, total, 50, seed=0), "spearman")
        assert -0.02 < stats.spearmanr(found, rate).statistic ** 2 - share < too_low


def test_values_that_vary_less_than_their_error_have_reliability_0() -> None:
    found, total = np.array([3.0, 4, 3, 4, 3, 4, 3, 4]), np.full(8, 20.0)
    assert reliability(found / total, rate_draws(found, total, 500, seed=0), "pearson") == 0.0


@given(
    arrays(np.float64, 12, elements=st.floats(-3, 3).map(lambda x: round(x, 2)), unique=True),
    st.floats(0.0, 3.0),
    st.sampled_from(["spearman", "pearson"]),
    st.integers(0, 99),
)
def test_reliability_is_within_0_and_1_and_independent_of_units(
    values: Floats, spread: float, coefficient: Coefficient, seed: int
) -> None:
    draws = values + spread * np.random.default_rng(seed).standard_normal((20, 12)).round(2)
    share = reliability(values, draws, coefficient)
    assert 0 <= share <= 1
    assert reliability(8 * values, 8 * draws, coefficient) == pytest.approx(share, abs=1e-9)


def test_spearmans_correction_for_attenuation() -> None:
    corrected, share = explained_by_noise(-0.6, 0.8, 0.9)
    assert corrected == pytest.approx(-0.6 / np.sqrt(0.72))
    assert share == pytest.approx((0.6 / np.sqrt(0.72) - 0.6) / 0.4)
    assert explained_by_noise(-0.9, 0.6, 0.7) == (-1.0, 1.0)
    assert explained_by_noise(0.9, 0.6, 0.7) == (1.0, 1.0)
    assert explained_by_noise(0.4, 1.0, 1.0) == (0.4, 0.0)


def test_the_interval_records_what_was_drawn_and_how_many_draws_failed() -> None:
    samples = np.append(np.linspace(-0.9, -0.5, 401), np.nan)
    found = noise_interval(samples, 0.95, "these dyads; replies vary")
    assert (found.low, found.high) == pytest.approx((-0.89, -0.51))
    assert (found.resamples, found.structure) == (402, "these dyads; replies vary")
    assert found.method == "percentiles over 402 draws of measurement error"
    assert "1 of 402 resamples dropped" in found.note
    assert "closer to 0" in found.note


def test_correlations_of_draws_are_closer_to_0_than_the_observed_one() -> None:
    rng = np.random.default_rng(8)
    latent = rng.standard_normal(300)
    found, total = counts(rng, stats.norm.cdf(latent - 1))
    draws = rate_draws(found, total, 300, seed=9)
    samples = noisy_correlations(np.broadcast_to(latent, draws.shape), draws, "spearman")
    assert 0 < np.median(samples) < stats.spearmanr(latent, found).statistic


ONE, NAN = np.ones(5), np.array([1.0, np.nan, 1, 1, 1])
ROWS = np.random.default_rng(0).random((3, 5))


@pytest.mark.parametrize(
    ("ask", "because"),
    [
        (lambda: rate_draws(NAN, 2 * ONE, 9, 0), "found and total are unknown in 1 of 5 dyads"),
        (lambda: rate_draws(ONE, 0 * ONE, 9, 0), "the counts are invalid in 5 of 5 dyads"),
        (lambda: rate_draws(ONE, np.array([1.0, 1, 0.5, 2, 1]), 9, 0), "the counts are invalid in 1 of 5 dyads"),
        (lambda: question_draws(ROWS[:1], 9, 0), "resampling questions needs at least 2"),
        (lambda: question_draws(np.stack([ONE, NAN]), 9, 0), "unknown in 1 of 5 dyads"),
        (lambda: noisy_correlations(ROWS[:, :3], ROWS[:, :3], "pearson"), "there are 3 dyads; .* at least 4"),
        (lambda: noisy_correlations(ROWS[:2], np.stack([ONE, NAN]), "pearson"), "a draw is unknown in 1 of 5 dyads"),
        (lambda: reliability(ONE, ROWS, "spearman"), "the measured value is the same in every dyad"),
        (lambda: reliability(NAN, ROWS, "spearman"), "the measured value is missing in 1 of 5 dyads"),
        (lambda: reliability(ROWS[0], np.stack([ONE, NAN]), "spearman"), "a draw is unknown in 1 of 5 dyads"),
        (lambda: explained_by_noise(0.5, 0.0, 1.0), "varies no more than its measurement error"),
        (lambda: explained_by_noise(-1.0, 0.5, 1.0), "already ±1"),
        (lambda: explained_by_noise(float("nan"), 0.5, 1.0), "the correlation is undefined"),
        (
            lambda: noise_interval(np.full(3, np.nan), 0.95, "replies vary"),
            "a variable is constant in each of 3 resamples",
        ),
    ],
)
def test_invalid_measurements_are_rejected(ask: Callable[[], object], because: str) -> None:
    with pytest.raises(UnanswerableError, match=because):
        ask()
