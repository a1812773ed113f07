"""Correlations and partial correlations that assume independent observations."""

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.correlations import (
    COEFFICIENTS,
    correlation,
    effective_n,
    fisher_interval,
    iid_correlation,
    iid_partial,
)
from persona_assets.statistics.statement import UnanswerableError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FROM_R = json.loads((FIXTURES / "dependent_correlations.json").read_text())["cases"]
DATA = pd.read_csv(FIXTURES / "dependent_correlations.csv")
Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture(autouse=True)
def no_library_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(params=FROM_R, ids=lambda case: f"n={case['n']}")
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    numbers: dict[str, Any] = request.param
    return numbers


@pytest.fixture
def columns(case: dict[str, Any]) -> Columns:
    rows = DATA[DATA["n"] == case["n"]]
    return rows["y"].to_numpy(), rows["a"].to_numpy(), rows["b"].to_numpy()


def test_correlations_are_those_of_r(case: dict[str, Any], columns: Columns) -> None:
    y, a, _ = columns
    for coefficient, name in (("pearson", "r12"), ("spearman", "spearman"), ("kendall", "kendall")):
        assert correlation(a, y, coefficient) == pytest.approx(case[name], rel=1e-10)
    _, interval, p = iid_correlation(a, y, "pearson")
    assert (interval.low, interval.high) == pytest.approx(case["pearson_interval"], rel=1e-10)
    assert p.p == pytest.approx(case["pearson_p"], rel=1e-9)


@pytest.mark.parametrize("coefficient", ["pearson", "spearman"])
def test_partial_correlation_is_r_with_n_minus_2_minus_k_degrees_of_freedom(
    case: dict[str, Any], columns: Columns, coefficient: str
) -> None:
    y, a, b = columns
    from_r = case[f"partial_{coefficient}"]
    r, _, p = iid_partial(a, y, b[None], coefficient)
    assert (r, p.p) == pytest.approx((from_r["r"], from_r["p"]), rel=1e-9)
    semi, _, _ = iid_partial(a, y, b[None], coefficient, semi=True)
    assert semi == pytest.approx(from_r["semi"], rel=1e-10)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_p_is_that_of_scipy(columns: Columns, coefficient: str) -> None:
    scipy = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}[coefficient]
    y, a, _ = columns
    r, _, p = iid_correlation(a.round(0), y, coefficient)
    assert (r, p.p) == tuple(scipy(a.round(0), y))


@pytest.mark.parametrize(
    ("coefficient", "half"),
    [
        ("pearson", 1.959964 / math.sqrt(47)),
        ("spearman", 1.959964 * math.sqrt((1 + 0.6**2 / 2) / 47)),  # Bonett & Wright 2000
        ("kendall", 1.959964 * math.sqrt(0.437 / 46)),  # Fieller, Hartley & Pearson 1957
    ],
)
def test_each_coefficient_has_its_own_standard_error(coefficient: str, half: float) -> None:
    interval = fisher_interval(-0.6, 50, coefficient, 0.95)
    assert math.atanh(interval.low) == pytest.approx(math.atanh(-0.6) - half, abs=1e-6)
    assert math.atanh(interval.high) == pytest.approx(math.atanh(-0.6) + half, abs=1e-6)


@given(st.floats(-0.95, 0.95), st.integers(6, 10_000), st.sampled_from(COEFFICIENTS), st.floats(0.5, 0.99))
def test_effective_n_of_the_iid_interval_is_n(r: float, n: int, coefficient: str, level: float) -> None:
    assert effective_n(r, fisher_interval(r, n, coefficient, level), coefficient) == pytest.approx(n, rel=1e-4)


def test_a_small_untied_kendall_has_a_smallest_p() -> None:
    x = np.arange(6.0)
    perfect = iid_correlation(x, x**2, "kendall")[2]
    assert perfect.p == perfect.smallest == pytest.approx(2 / math.factorial(6))
    assert iid_correlation(x, np.array([0.0, 0, 1, 2, 3, 4]), "kendall")[2].smallest == 0


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_perfect_correlation_has_a_degenerate_interval_and_a_note(coefficient: str, sign: int) -> None:
    x = np.array([0.1, 0.3, 0.2, 0.7, 0.5])
    r, interval, p = iid_correlation(x, 2 * sign * x + 1, coefficient)
    assert p.note.startswith("a t test gives a perfect correlation p = 0") == (p.p == 0)
    assert coefficient == "kendall" or p.p < 1e-20
    assert r == pytest.approx(sign)
    assert interval.low == interval.high == r
    assert "perfect correlation" in interval.note
    assert math.isnan(effective_n(r, interval, coefficient))


def test_errors_name_the_constant_or_missing_variable() -> None:
    x, flat = np.arange(5.0), np.full(5, 0.3)
    names = ("js", "leakage_rate")
    with pytest.raises(UnanswerableError, match=r"^leakage_rate is the same in every pair$"):
        iid_correlation(x, flat, "spearman", unit="pair", names=names)
    with pytest.raises(UnanswerableError, match=r"^js is the same in every dyad$"):
        iid_correlation(flat + np.array([0, 1e-16, 0, 0, 0]), x, "pearson", names=names)
    with pytest.raises(UnanswerableError, match=r"^js is missing in 1 of 5 dyads$"):
        iid_correlation(np.array([1, 2, math.nan, 4, 5]), x, "kendall", names=names)
    with pytest.raises(UnanswerableError, match="y is the same"):
        correlation(x, flat, "pearson")


@pytest.mark.parametrize(("coefficient", "fewest"), [("pearson", 4), ("spearman", 4), ("kendall", 5)])
def test_the_error_for_too_few_observations_gives_their_number(coefficient: str, fewest: int) -> None:
    x, y = np.arange(5.0), np.array([2.0, 1, 5, 3, 4])
    with pytest.raises(UnanswerableError, match=f"there are {fewest - 1} dyads; .* at least {fewest}"):
        iid_correlation(x[: fewest - 1], y[: fewest - 1], coefficient)
    iid_correlation(x[:fewest], y[:fewest], coefficient)


def test_the_independence_assumption_is_recorded(columns: Columns) -> None:
    y, a, b = columns
    _, interval, p = iid_partial(a, y, b[None], "spearman", unit="pair")
    assert interval.structure == p.structure == "every pair independent"
    assert iid_correlation(a, y, "pearson")[1].structure == "every dyad independent"


def test_partial_interval_of_pearson_is_that_of_pingouin(columns: Columns) -> None:
    import pingouin

    y, a, b = columns
    table = pd.DataFrame({"y": y, "a": a, "b": b, "c": np.sin(np.arange(len(y)))})
    theirs = pingouin.partial_corr(table, "a", "y", covar=["b", "c"]).iloc[0]
    r, interval, p = iid_partial(a, y, table[["b", "c"]].to_numpy().T, "pearson")
    assert (r, p.p) == pytest.approx((theirs["r"], theirs["p_val"]), rel=1e-9)
    # pingouin rounds its limits to two decimals
    assert [round(interval.low, 2), round(interval.high, 2)] == list(theirs["CI95"])


@pytest.mark.parametrize("coefficient", ["pearson", "spearman"])
def test_the_unit_of_measurement_does_not_matter_to_a_partial_correlation(coefficient: str) -> None:
    # pingouin compares raw values within 1e-8 and would treat small values as identical
    x, y, z = np.random.default_rng(3).random((3, 20))
    small = iid_partial(x * 1e-10, y * 1e-10, z[None] * 1e-10, coefficient)
    assert small[0] == pytest.approx(iid_partial(x, y, z[None], coefficient)[0], rel=1e-9)


@pytest.mark.parametrize("coefficient", ["pearson", "spearman"])
def test_variables_collinear_with_the_given_ones_are_rejected(coefficient: str) -> None:
    rng = np.random.default_rng(0)
    x, y, z = rng.random((3, 20))
    for a, b, given_ in ((2 * z - 1, y, z[None]), (x, 3 * z, z[None]), (x, y, np.array([z, -z])), (x, 5 * x, z[None])):
        with pytest.raises(UnanswerableError, match="are exactly collinear"):
            iid_partial(a, b, given_, coefficient)
    with pytest.raises(UnanswerableError, match="given 1 is the same in every dyad"):
        iid_partial(x, y, np.ones((1, 20)), coefficient)


def test_errors_for_impossible_partial_correlations() -> None:
    x, y, z = np.random.default_rng(0).random((3, 4))
    with pytest.raises(
        UnanswerableError, match=r"there are 4 dyads; a partial correlation given 1 variables needs at least 5"
    ):
        iid_partial(x, y, z[None], "pearson")
    with pytest.raises(UnanswerableError, match="partial Kendall"):
        iid_partial(x, y, z[None], "kendall")
