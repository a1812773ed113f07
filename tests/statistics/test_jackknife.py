"""Jackknife over sources or personas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from persona_assets.statistics.jackknife import jackknife_interval, left_out_weights
from persona_assets.statistics.statement import Interval, UnanswerableError

SOURCE, TARGET = np.array([4, 4, 2, 2]), np.array([2, 9, 4, 9])


def interval(estimate: float, left_out: list[float] | np.ndarray, **more: str) -> Interval:
    return jackknife_interval(estimate, np.asarray(left_out), 0.95, "jackknife", "sources", **more)  # type: ignore[arg-type]


def test_a_source_is_left_out_with_its_dyads() -> None:
    np.testing.assert_array_equal(left_out_weights(SOURCE), [[1, 1, 0, 0], [0, 0, 1, 1]])


def test_a_persona_is_left_out_with_its_dyads_on_either_side() -> None:
    np.testing.assert_array_equal(left_out_weights(SOURCE, TARGET), [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]])


@given(arrays(np.float64, st.integers(3, 20), elements=st.floats(-100, 100)))
def test_the_jackknife_of_a_mean_is_students_interval(x: np.ndarray) -> None:
    # Tukey 1958: the pseudo-values of a mean are the observations
    left_out = (x.sum() - x) / (len(x) - 1)
    found = interval(x.mean(), left_out, transform="none")
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    assert (found.low, found.high) == pytest.approx((x.mean() - half, x.mean() + half), abs=1e-9)


def test_fishers_transform_keeps_a_correlation_within_its_bounds() -> None:
    left_out = [-0.99, -0.9, -0.97, -0.5, -0.95]
    plain, transformed = interval(-0.95, left_out, transform="none"), interval(-0.95, left_out)
    assert plain.low < -1.0
    assert -1.0 < transformed.low < -0.95 < transformed.high < 1.0
    z = np.arctanh(left_out)
    half = stats.t.ppf(0.975, 4) * np.sqrt(4 / 5 * ((z - z.mean()) ** 2).sum())
    assert transformed.high == pytest.approx(np.tanh(np.arctanh(-0.95) + half), abs=1e-12)
    assert transformed.resamples == 5


@pytest.mark.parametrize(
    ("estimate", "left_out", "because"),
    [
        (0.5, [0.4, 0.6], "there are 2 units to leave out; a jackknife needs at least 3"),
        (0.5, [0.4, np.nan, np.nan, 0.2], "is undefined for 2 of the 4 units"),
        (np.nan, [0.4, 0.5, 0.2], "the estimate is undefined with all 3 units"),
        (0.9, [0.8, 1.0, 0.7], "a correlation is ±1"),
    ],
)
def test_impossible_jackknifes_are_rejected(estimate: float, left_out: list[float], because: str) -> None:
    with pytest.raises(UnanswerableError, match=because):
        interval(estimate, left_out)
