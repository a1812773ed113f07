"""Comparison of two correlations with the same outcome, checked against R."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from persona_assets.statistics.correlations import iid_correlation
from persona_assets.statistics.dependent import aligned, steiger, williams, zou
from persona_assets.statistics.statement import UnanswerableError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FROM_R = json.loads((FIXTURES / "dependent_correlations.json").read_text())["cases"]
DATA = pd.read_csv(FIXTURES / "dependent_correlations.csv")
correlations = st.floats(-0.9, 0.9)


@pytest.fixture(params=FROM_R, ids=lambda case: f"n={case['n']}")
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    numbers: dict[str, Any] = request.param
    return numbers


@pytest.fixture
def triple(case: dict[str, Any]) -> tuple[float, float, float]:
    """Compute the three correlations from the data that R read."""
    rows = DATA[DATA["n"] == case["n"]]
    r12, r13, r23 = (
        iid_correlation(rows[x].to_numpy(), rows[y].to_numpy(), "pearson")[0]
        for x, y in (("y", "a"), ("y", "b"), ("a", "b"))
    )
    return r12, r13, r23


def distinct(r12: float, r13: float, r23: float) -> bool:
    return 1 - r12**2 - r13**2 - r23**2 + 2 * r12 * r13 * r23 > 1e-6


def test_williams_is_that_of_psych(case: dict[str, Any], triple: tuple[float, float, float]) -> None:
    test = williams(*triple, case["n"])
    assert test.p == pytest.approx(case["williams_p"], rel=1e-10)
    assert test.method == f"Williams' t({case['n'] - 3}) = {case['williams_t']:.3f}"


def test_steiger_is_that_of_psych(case: dict[str, Any], triple: tuple[float, float, float]) -> None:
    test = steiger(*triple, case["n"])
    assert test.p == pytest.approx(case["steiger_p"], rel=0, abs=1e-10)
    assert f"Z = {case['steiger_z']:.3f}," in test.method


def test_zou_is_the_formula_from_the_limits_of_psych(case: dict[str, Any], triple: tuple[float, float, float]) -> None:
    interval = zou(*triple, case["n"], 0.95)
    assert (interval.low, interval.high) == pytest.approx(case["zou"], rel=1e-10)


@given(correlations, correlations, correlations, st.integers(4, 500))
def test_which_predictor_is_named_first_does_not_matter(r12: float, r13: float, r23: float, n: int) -> None:
    assume(distinct(r12, r13, r23))
    assert williams(r12, r13, r23, n).p == pytest.approx(williams(r13, r12, r23, n).p)
    assert steiger(r12, r13, r23, n).p == pytest.approx(steiger(r13, r12, r23, n).p)
    one, other = zou(r12, r13, r23, n, 0.9), zou(r13, r12, r23, n, 0.9)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@given(correlations, correlations, correlations, st.integers(4, 500))
def test_every_interval_contains_the_difference_and_p_is_valid(r12: float, r13: float, r23: float, n: int) -> None:
    assume(distinct(r12, r13, r23))
    interval = zou(r12, r13, r23, n, 0.95)
    assert interval.low <= r12 - r13 <= interval.high
    assert interval.low >= -2
    assert interval.high <= 2
    assert 0 <= williams(r12, r13, r23, n).p <= 1
    assert 0 <= steiger(r12, r13, r23, n).p <= 1


def test_aligning_flips_a_predictor_and_its_correlation_with_the_other() -> None:
    rng = np.random.default_rng(1)
    y, a = rng.standard_normal((2, 40))
    b = a + rng.standard_normal(40)
    a -= y
    b += 2 * y
    turned = np.corrcoef([y, -a, b])
    assert aligned(*np.corrcoef([y, a, b])[[0, 0, 1], [1, 2, 2]]) == pytest.approx(turned[[0, 0, 1], [1, 2, 2]])
    assert turned[0, 1] > 0
    assert turned[0, 2] > 0


def test_intervals_of_rank_correlations_are_wider() -> None:
    pearson, spearman = (zou(0.7, 0.5, 0.6, 30, 0.95, coefficient) for coefficient in ("pearson", "spearman"))
    assert spearman.low < pearson.low < pearson.high < spearman.high
    assert "Bonett" in spearman.method


@pytest.mark.parametrize("triple", [(0.5, 0.5, 1.0), (0.9, -0.9, 0.9), (1.0, 0.3, 0.3), (math.nan, 0.1, 0.1)])
def test_inconsistent_correlations_are_rejected(triple: tuple[float, float, float]) -> None:
    for compare in (williams, steiger, lambda *numbers: zou(*numbers, 0.95)):
        with pytest.raises(UnanswerableError, match="cannot be compared"):
            compare(*triple, 50)


def test_three_observations_are_too_few_to_compare() -> None:
    with pytest.raises(UnanswerableError, match=r"there are 3 observations; .* needs at least 4"):
        williams(0.5, 0.3, 0.2, 3)
