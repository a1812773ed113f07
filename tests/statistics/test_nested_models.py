"""Least squares and nested models, checked against R's lm and anova."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from persona_assets.statistics.nested_models import linear_model, nested_ols
from persona_assets.statistics.statement import UnanswerableError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FROM_R = json.loads((FIXTURES / "dependent_correlations.json").read_text())["cases"]
DATA = pd.read_csv(FIXTURES / "dependent_correlations.csv")


@pytest.fixture(autouse=True)
def no_library_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("case", FROM_R, ids=lambda case: f"n={case['n']}")
def test_nested_models_are_those_of_r(case: dict[str, Any]) -> None:
    y, a, b = DATA.loc[DATA["n"] == case["n"], ["y", "a", "b"]].to_numpy().T
    models = nested_ols(y, b[None], a[None])
    assert (models.r2_base, models.r2_full) == pytest.approx((case["r2_base"], case["r2_full"]), rel=1e-10)
    assert models.delta_r2 == pytest.approx(case["r2_full"] - case["r2_base"], rel=1e-10)
    assert (models.f, models.p.p) == pytest.approx((case["f"], case["f_p"]), rel=1e-10)
    assert (models.df_added, models.df_residual) == (1, case["n"] - 3)


@pytest.mark.parametrize("case", FROM_R, ids=lambda case: f"n={case['n']}")
def test_slopes_and_their_errors_are_those_of_r(case: dict[str, Any]) -> None:
    y, a, b = DATA.loc[DATA["n"] == case["n"], ["y", "a", "b"]].to_numpy().T
    model = linear_model(y, np.array([a, b]))
    assert model.slopes == pytest.approx(case["slopes"], rel=1e-10)
    assert model.errors == pytest.approx(case["errors"], rel=1e-10)
    assert [p.p for p in model.p] == pytest.approx(case["slope_p"], rel=1e-10)
    assert [interval.low for interval in model.intervals] == pytest.approx(case["slope_low"], rel=1e-10)
    assert [interval.high for interval in model.intervals] == pytest.approx(case["slope_high"], rel=1e-10)
    assert model.r2 == pytest.approx(case["r2_full"], rel=1e-10)


def test_the_smaller_model_may_have_only_an_intercept() -> None:
    y, a, b = DATA.loc[DATA["n"] == 50, ["y", "a", "b"]].to_numpy().T
    models = nested_ols(y, np.empty((0, 50)), np.array([a, b]))
    assert models.r2_base == pytest.approx(0, abs=1e-12)
    assert models.delta_r2 == pytest.approx(linear_model(y, np.array([a, b])).r2)
    assert models.df_added == 2


def test_small_units_do_not_count_as_collinear() -> None:
    y, a, b = DATA.loc[DATA["n"] == 50, ["y", "a", "b"]].to_numpy().T
    small = nested_ols(y, b[None] * 1e-6, 0.02 + a[None] * 1e-6)
    assert small.f == pytest.approx(nested_ols(y, b[None], a[None]).f, rel=1e-6)


def test_models_that_cannot_be_fitted_say_why() -> None:
    y, a, b = np.random.default_rng(0).random((3, 10))
    for base, added, why in (
        (b, 2 * b + 1, "predictor 1, predictor 2 are exactly collinear"),
        (b, np.ones(10), "predictor 2 is the same in every pair"),
        (b, y - b, "the predictors fit the outcome exactly"),
        (b, np.where(a > 0.5, np.nan, a), r"predictor 2 is missing in \d of 10 pairs"),
    ):
        with pytest.raises(UnanswerableError, match=why):
            nested_ols(y, base[None], added[None], unit="pair")
    with pytest.raises(UnanswerableError, match="the outcome is the same in every dyad"):
        linear_model(np.zeros(10), a[None])
    with pytest.raises(UnanswerableError, match="there are 4 dyads; a model of 2 predictors needs at least 5"):
        linear_model(y[:4], np.array([a, b])[:, :4])
    assert linear_model(y[:5], np.array([a, b])[:, :5]).df_residual == 2
