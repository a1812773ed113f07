"""Dyadic-robust errors, checked against a double loop over dyads and against R."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.dyadic_errors import dyadic_covariance, dyadic_ols
from persona_assets.statistics.nested_models import linear_model
from persona_assets.statistics.statement import UnanswerableError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FROM_R = json.loads((FIXTURES / "dyadic_errors.json").read_text())["designs"]
DATA = pd.read_csv(FIXTURES / "dyadic_errors.csv")
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "qwen2.5-7b-instruct" / "dyads50.csv"

Floats = NDArray[np.float64]


@pytest.fixture(autouse=True)
def no_library_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def table(name: str) -> tuple[Floats, Floats, Any, Any]:
    """Return outcome, predictors, source and target of a design."""
    rows = DATA[DATA["design"] == name]
    return rows["y"].to_numpy(), rows[["a", "b"]].to_numpy().T, rows["source"].to_numpy(), rows["target"].to_numpy()


def covariance_of(case: dict[str, Any]) -> tuple[Floats, float]:
    """Return our covariance without the factor for K personas, and that factor."""
    _, predictors, source, target = table(case["design"])
    design = np.column_stack([np.ones(len(source)), *predictors])
    personas = len(np.unique([*source, *target]))
    factor = personas / (personas - 1)
    return dyadic_covariance(np.array(case["residuals"]), design, source, target) / factor, factor


@pytest.mark.parametrize("case", FROM_R, ids=lambda case: case["design"])
def test_the_covariance_is_that_of_rs_double_loop(case: dict[str, Any]) -> None:
    np.testing.assert_allclose(covariance_of(case)[0], case["dyadic"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize(("design", "clusters"), [("two_way", "two_way"), ("one_way", "one_way")])
def test_sources_that_are_no_targets_give_rs_clustered_covariance(design: str, clusters: str) -> None:
    (case,) = (case for case in FROM_R if case["design"] == design)
    np.testing.assert_allclose(covariance_of(case)[0], case[clusters], rtol=1e-9, atol=1e-13)


def test_a_persona_shared_as_source_and_as_target_counts() -> None:
    (case,) = (case for case in FROM_R if case["design"] == "everybody")
    apart = np.sqrt(np.diag(covariance_of(case)[0]) / np.diag(case["two_way"]))
    assert np.abs(apart - 1).max() > 0.05


@given(st.integers(3, 7), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_any_dyads_give_the_brute_force_sum(personas: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(k + 2, 40))
    source = rng.integers(personas, size=n)
    target = (source + rng.integers(1, personas, size=n)) % personas  # the same dyad may occur twice
    design, residuals = rng.standard_normal((n, k)), rng.standard_normal(n)
    members = np.stack([source, target], axis=1)
    share = (members[:, None, :, None] == members[None, :, None, :]).any(axis=(2, 3))
    scores = design * residuals[:, None]
    bread = np.linalg.inv(design.T @ design)
    count = len(np.unique(members))
    expected = count / (count - 1) * bread @ (scores.T @ share @ scores) @ bread
    found = dyadic_covariance(residuals, design, source, target)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("case", FROM_R, ids=lambda case: case["design"])
def test_errors_intervals_and_p_follow_from_the_covariance(case: dict[str, Any]) -> None:
    y, predictors, source, target = table(case["design"])
    model = dyadic_ols(y, predictors, source, target, level=0.9)
    covariance, factor = covariance_of(case)
    errors = np.sqrt(factor * np.diag(covariance)[1:])
    df = min(len(set(source)), len(set(target))) - 1
    assert model.slopes == pytest.approx(case["coefficients"][1:], rel=1e-9)
    assert model.errors == pytest.approx(errors, rel=1e-8)
    assert model.df_residual == df
    assert f"t({df})" in model.p[0].method
    for slope, error, interval, p in zip(model.slopes, model.errors, model.intervals, model.p, strict=True):
        assert (interval.low + interval.high) / 2 == pytest.approx(slope)
        assert interval.high - slope == pytest.approx(stats.t.ppf(0.95, df) * error)
        assert p.p == pytest.approx(2 * stats.t.sf(abs(slope / error), df))
        assert p.note == ""


def test_slopes_and_r2_are_those_of_least_squares() -> None:
    y, predictors, source, target = table("everybody")
    iid, dyadic = linear_model(y, predictors), dyadic_ols(y, predictors, source, target)
    assert dyadic.slopes == pytest.approx(iid.slopes, rel=1e-10)
    assert dyadic.r2 == pytest.approx(iid.r2, rel=1e-10)


def test_p_does_not_depend_on_units() -> None:
    y, predictors, source, target = table("two_way")
    plain = dyadic_ols(y, predictors, source, target)
    other = dyadic_ols(7 * y, predictors * np.array([[1e-4], [1e3]]) + 5, source, target)
    assert [p.p for p in other.p] == pytest.approx([p.p for p in plain.p], rel=1e-6)


def test_the_dyadic_error_of_js_in_the_published_run_is_larger_than_the_iid_error() -> None:
    if not PUBLISHED.is_file():
        pytest.skip(f"the published run is not there: {PUBLISHED}")
    dyads = pd.read_csv(PUBLISHED)
    place = {name: number for number, name in enumerate(dict.fromkeys([*dyads["source"], *dyads["target"]]))}
    source, target = (dyads[side].map(place).to_numpy() for side in ("source", "target"))
    y, predictors = dyads["leakage_rate"].to_numpy(), dyads[["js", "cosine_l20_centred11"]].to_numpy().T
    model = dyadic_ols(y, predictors, source, target)
    assert model.df_residual == 4
    assert model.r2 == pytest.approx(0.5214, abs=5e-5)  # reference/README.md
    iid = linear_model(y, predictors)
    assert iid.p[0].p == pytest.approx(0.00116, abs=5e-6)  # F(1, 47) = 11.96
    assert model.p[0].p > 20 * iid.p[0].p


def indefinite() -> tuple[Floats, Floats, Any, Any]:
    """Find a seeded table of four personas with a negative dyadic-robust variance of the slope."""
    source, target = np.array([(i, j) for i in range(4) for j in range(4) if i != j]).T
    for seed in range(100):
        y, x = np.random.default_rng(seed).standard_normal((2, 12))
        design = np.column_stack([np.ones(12), (x - x.mean()) / np.linalg.norm(x - x.mean())])
        residuals = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        if dyadic_covariance(residuals, design, source, target)[1, 1] < 0:
            return y, x[None], source, target
    raise AssertionError("no seed gives a negative variance")


def test_a_negative_variance_is_rejected() -> None:
    with pytest.raises(UnanswerableError, match="variance of a slope is 0 or less"):
        dyadic_ols(*indefinite())


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda y, x, s, t: (y * 0, x, s, t), "the outcome is the same in every dyad"),
        (lambda y, x, s, t: (y, x * [[0], [1]], s, t), "predictor 1 is the same in every dyad"),
        (lambda y, x, s, t: (y, x[[0, 0]], s, t), "are exactly collinear"),
        (lambda y, x, s, t: (x[0] - 2 * x[1], x, s, t), "fit the outcome exactly"),
        (lambda y, x, s, t: (y, x, s % 2, t), "there are 2 sources or targets"),
        (lambda y, x, s, t: (y, x, s, t * 0 + 14), "there are 1 sources or targets"),
        (lambda y, x, s, t: (y[:4], x[:, :4], np.arange(4), np.arange(4) + 4), "there are 4 dyads"),
        (lambda y, x, s, t: (np.where(y == y[0], np.nan, y), x, s, t), "the outcome is missing in 1 of 50 dyads"),
    ],
)
def test_statements_that_cannot_be_computed_say_why(change: Any, because: str) -> None:
    with pytest.raises(UnanswerableError, match=because):
        dyadic_ols(*change(*table("two_way")))
