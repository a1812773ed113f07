"""Correlation matrices of weighted samples, checked against the same samples with repeated observations."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import (
    Coefficient,
    correlation_matrices,
    delta_r2,
    partial,
    r_squared,
    semi_partial,
    weighted_ranks,
)

Floats = NDArray[np.float64]


@st.composite
def samples(draw: st.DrawFn) -> tuple[Floats, NDArray[np.int64]]:
    """Generate values with ties, and integer weights with at least one positive."""
    n = draw(st.integers(1, 15))
    x = draw(arrays(np.float64, n, elements=st.integers(-3, 3).map(lambda k: k / 3)))
    weights = draw(arrays(np.int64, (3, n), elements=st.integers(0, 4)))
    weights[:, 0] += weights.sum(axis=1) == 0
    return x, weights


@given(samples())
def test_weighted_ranks_are_those_of_the_repeated_sample(sample: tuple[Floats, NDArray[np.int64]]) -> None:
    x, weights = sample
    for row, ranks in zip(weights, weighted_ranks(x, weights), strict=True):
        np.testing.assert_array_equal(np.repeat(ranks, row), stats.rankdata(np.repeat(x, row)))


def test_weights_need_not_be_integers() -> None:
    # weight below 2 is 0.5; weight at 2 is 1.5 + 0.25 with midpoint 0.5 + 0.875; ranks start at a half
    ranks = weighted_ranks(np.array([2.0, 1.0, 2.0, 5.0]), np.array([[1.5, 0.5, 0.25, 1.0]]))
    np.testing.assert_allclose(ranks, [[1.875, 0.75, 1.875, 3.25]], rtol=0, atol=1e-15)


@pytest.mark.parametrize("coefficient", ["spearman", "pearson"])
@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), ties=st.booleans())
def test_matrices_are_those_of_the_repeated_samples(coefficient: Coefficient, seed: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 5, size=(3, 12)).astype(float) if ties else rng.normal(size=(3, 12))
    weights = rng.integers(0, 3, size=(4, 12))
    matrices = correlation_matrices(values, weights, coefficient)
    for row, matrix in zip(weights, matrices, strict=True):
        frame = pd.DataFrame(np.repeat(values, row, axis=1).T)
        if frame.nunique().min() > 1:
            np.testing.assert_allclose(matrix, frame.corr(method=coefficient), rtol=0, atol=1e-12)


@pytest.mark.parametrize("coefficient", ["spearman", "pearson"])
def test_only_variables_constant_in_a_resample_have_no_correlation(coefficient: Coefficient) -> None:
    values = np.array([[0.1, 0.1, 0.1, 0.7, 0.3], [1.0, 5.0, 2.0, 4.0, 3.0], [2.0, 1.0, 1.0, 4.0, 9.0]])
    weights = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 3, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrices = correlation_matrices(values, weights, coefficient)
    np.testing.assert_array_equal(np.isnan(matrices[0]), [[True] * 3, [True, False, False], [True, False, False]])
    assert np.isnan(matrices[1:3]).all()
    assert np.isfinite(matrices[3]).all()


def test_a_large_common_level_does_not_cost_precision() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 30))
    ones = np.ones((1, 30))
    raised = correlation_matrices(values * 1e-3 + 1e6, ones, "pearson")
    np.testing.assert_allclose(raised, correlation_matrices(values, ones, "pearson"), rtol=0, atol=1e-6)


def test_chunking_does_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(3, 20)), rng.integers(0, 3, size=(50, 20))
    whole = correlation_matrices(values, weights, "spearman")
    monkeypatch.setattr("persona_assets.statistics.chunks._NUMBERS", 200)
    np.testing.assert_allclose(correlation_matrices(values, weights, "spearman"), whole, rtol=0, atol=1e-15)


def test_too_few_or_unknown_values_are_rejected() -> None:
    with pytest.raises(UnanswerableError, match="there are 3 observations"):
        correlation_matrices(np.ones((2, 3)), np.ones((1, 3)), "pearson")
    with pytest.raises(UnanswerableError, match="unknown in 2 of 5 observations"):
        correlation_matrices(np.array([[1.0, np.nan, 3, 4, 5], [1.0, 2, 3, np.inf, 5]]), np.ones((1, 5)), "spearman")


@pytest.fixture(scope="module")
def sample() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    shared = rng.normal(size=40)
    table = pd.DataFrame({name: shared + rng.normal(size=40) for name in ("a", "b", "c")})
    return table.assign(y=table.a - 0.5 * table.b + rng.normal(size=40))[["y", "a", "b", "c"]]


@pytest.mark.parametrize("coefficient", ["spearman", "pearson"])
@pytest.mark.parametrize("given_too", [["b"], ["b", "c"]])
def test_partial_and_semi_partial_are_pingouins(
    sample: pd.DataFrame, coefficient: Coefficient, given_too: list[str]
) -> None:
    import pingouin

    matrices = correlation_matrices(sample.to_numpy().T, np.ones((1, 40)), coefficient)
    places = [sample.columns.tolist().index(name) for name in given_too]
    both = pingouin.partial_corr(sample, "a", "y", covar=given_too, method=coefficient)["r"].iloc[0]
    one = pingouin.partial_corr(sample, "a", "y", x_covar=given_too, method=coefficient)["r"].iloc[0]
    assert partial(matrices, 1, places)[0] == pytest.approx(both, abs=1e-12)
    assert semi_partial(matrices, 1, places)[0] == pytest.approx(one, abs=1e-12)


def test_r_squared_and_delta_r2_are_statsmodels(sample: pd.DataFrame) -> None:
    import statsmodels.api as sm

    def fitted(*names: str) -> float:
        return float(sm.OLS(sample.y, sm.add_constant(sample[list(names)])).fit().rsquared)

    matrices = correlation_matrices(sample.to_numpy().T, np.ones((1, 40)), "pearson")
    assert r_squared(matrices, [1, 2, 3])[0] == pytest.approx(fitted("a", "b", "c"), abs=1e-12)
    assert r_squared(matrices, [])[0] == 0.0
    assert delta_r2(matrices, [1, 3], [2])[0] == pytest.approx(fitted("a", "b", "c") - fitted("b"), abs=1e-12)


def test_collinear_predictors_give_nan() -> None:
    rng = np.random.default_rng(0)
    y, a = rng.normal(size=(2, 20))
    matrices = correlation_matrices(np.stack([y, a, 2 * a - 1]), np.ones((1, 20)), "pearson")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [
            partial(matrices, 1, [2]),
            partial(matrices, 1, [1]),
            semi_partial(matrices, 1, [2]),
            r_squared(matrices, [1, 2]),
            delta_r2(matrices, [1], [2]),
        ]
    assert np.isnan(found).all()
    assert np.isfinite(r_squared(matrices, [2])).all()


def test_nan_in_one_resample_does_not_affect_others() -> None:
    rng = np.random.default_rng(1)
    matrices = correlation_matrices(rng.normal(size=(3, 20)), np.ones((2, 20)), "pearson")
    matrices[0, 2] = matrices[0, :, 2] = np.nan
    assert np.isnan(partial(matrices, 1, [2])).tolist() == [True, False]
    assert np.isnan(r_squared(matrices, [1, 2])).tolist() == [True, False]
    assert np.isfinite(r_squared(matrices, [1])).all()
