"""The Laplace likelihood, checked against its definition with dense matrices, a GLM and lme4."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit
from scipy.stats import binom

from persona_assets.statistics.laplace import CrossedCounts

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FROM_R = json.loads((FIXTURES / "binomial.json").read_text())["designs"]
DATA = pd.read_csv(FIXTURES / "binomial.csv")

Floats = NDArray[np.float64]


def counts(name: str) -> CrossedCounts:
    rows = DATA[DATA["design"] == name]
    predictors = rows[["x1", "x2"]].to_numpy()
    design = np.column_stack([np.ones(len(rows)), (predictors - predictors.mean(axis=0)) / predictors.std(axis=0)])
    found, total = rows[["found", "total"]].to_numpy(dtype=np.float64).T
    return CrossedCounts(found, total, design, rows["source"].to_numpy(), rows["target"].to_numpy())


def some_counts(seed: int) -> tuple[CrossedCounts, Floats]:
    """Make a few dyads, some of them missing, and parameters to evaluate the likelihood at."""
    rng = np.random.default_rng(seed)
    source, target = np.divmod(rng.choice(30, size=20, replace=False), 6)
    total = rng.integers(1, 60, size=20).astype(np.float64)
    found = rng.binomial(total.astype(int), rng.beta(0.5, 0.8, size=20)).astype(np.float64)
    design = np.column_stack([np.ones(20), rng.standard_normal(20)])
    return CrossedCounts(found, total, design, source, target), np.array([*rng.normal(size=2), *rng.gamma(2, 0.5, 3)])


def dense(model: CrossedCounts, parameters: Floats) -> float:
    """Compute log L by its definition: one dense Hessian of all effects, modes by SciPy's trust region from 0."""
    slopes, sigmas = parameters[:-3], parameters[-3:]
    n = len(model.found)
    effects = np.hstack(
        [
            sigmas[0] * np.eye(model.sources)[model.source],
            sigmas[1] * np.eye(model.targets)[model.target],
            sigmas[2] * np.eye(n),
        ]
    )

    def logits(modes: Floats) -> Floats:
        return model.design @ slopes + effects @ modes

    def value(modes: Floats) -> float:
        logit = logits(modes)
        return float(np.sum(model.total * np.logaddexp(0, logit) - model.found * logit) + 0.5 * modes @ modes)

    def gradient(modes: Floats) -> Floats:
        return modes - effects.T @ (model.found - model.total * expit(logits(modes)))

    def hessian(modes: Floats) -> Floats:
        p = expit(logits(modes))
        return np.eye(len(modes)) + effects.T @ np.diag(model.total * p * (1 - p)) @ effects

    start = np.zeros(effects.shape[1])
    modes = minimize(value, start, jac=gradient, hess=hessian, method="trust-exact", options={"gtol": 1e-9}).x
    likelihood = binom.logpmf(model.found, model.total, expit(logits(modes))).sum()
    return float(likelihood - 0.5 * modes @ modes - 0.5 * np.linalg.slogdet(hessian(modes))[1])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
@example(517)  # Newton steps without step halving oscillate forever here
def test_eliminating_the_dyads_changes_nothing(seed: int) -> None:
    model, parameters = some_counts(seed)
    assert -model.objective(parameters)[0] == pytest.approx(dense(model, parameters), rel=1e-8)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_the_gradient_follows_the_modes(seed: int) -> None:
    model, parameters = some_counts(seed)
    gradient = model.objective(parameters)[1]
    numeric = approx_fprime(parameters, lambda at: model.objective(at)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-3, atol=1e-3)


def test_the_value_does_not_depend_on_the_previous_modes() -> None:
    model, parameters = some_counts(1)
    first = model.objective(parameters)[0]
    model.objective(parameters + 2)
    assert model.objective(parameters)[0] == pytest.approx(first, rel=1e-12)


def test_without_effects_it_is_the_binomial_likelihood() -> None:
    model, parameters = some_counts(2)
    share = expit(model.design @ parameters[:-3])
    value = model.objective(np.concatenate([parameters[:-3], np.zeros(3)]))[0]
    assert -value == pytest.approx(binom.logpmf(model.found, model.total, share).sum(), rel=1e-12)


@pytest.mark.parametrize("case", FROM_R, ids=lambda case: case["design"])
def test_the_likelihood_at_lme4s_parameters_is_lme4s(case: dict[str, Any]) -> None:
    there = case["glmer"]
    value, gradient = counts(case["design"]).objective(np.array([*there["coefficients"], *there["sigmas"]]))
    assert -value == pytest.approx(there["log_likelihood"], abs=1e-5)
    assert np.abs(gradient).max() < 0.02


@pytest.mark.parametrize("start", [0.0, 0.05, 1.0, 4.0])
@pytest.mark.parametrize("case", FROM_R, ids=lambda case: case["design"])
def test_every_start_reaches_lme4s_maximum_even_with_zero_gradient(case: dict[str, Any], start: float) -> None:
    best = counts(case["design"]).maximise(np.zeros(3), np.full(3, start))
    assert best.log_likelihood == pytest.approx(case["glmer"]["log_likelihood"], abs=1e-4)


def test_the_gain_reveals_an_unfinished_search() -> None:
    model = counts("everybody")
    best = model.maximise(np.zeros(3), np.ones(3))
    assert model.uncertainty(best).gain < 1e-6
    short = type(best)(best.slopes + np.array([0.0, 0.1, 0.0]), best.sigmas, best.log_likelihood)
    assert model.uncertainty(short).gain > 0.1


def test_without_positive_curvature_over_sigma_it_is_treated_as_known() -> None:
    model = counts("everybody")
    best = model.maximise(np.zeros(3), np.ones(3))
    far = model.uncertainty(type(best)(best.slopes, np.array([9.0, 9.0, 9.0]), 0.0))
    assert far.sigmas_known
    assert (np.diag(far.covariance) > 0).all()
