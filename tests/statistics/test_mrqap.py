"""MRQAP with double semi-partialling, against sna and an enumeration in R."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.labels import label_permutations
from persona_assets.statistics.mrqap import mrqap, permuted_t
from persona_assets.statistics.permutation import permuted_correlations, two_sided
from persona_assets.statistics.statement import UnanswerableError

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
BOTH = ["x1", "x2"]


@pytest.fixture(scope="module")
def in_r() -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((FIXTURES / "qap.json").read_text())
    return numbers


@pytest.fixture(scope="module")
def five() -> Dyads:
    table = pd.read_csv(FIXTURES / "qap.csv")
    source, target = table["source"].to_numpy(), table["target"].to_numpy()
    matrices = {name: np.full((5, 5), np.nan) for name in BOTH}
    for name, matrix in matrices.items():
        matrix[source, target] = table[name]
    unknown = np.full(20, np.nan)
    return Dyads(tuple("abcde"), source, target, table["y"].to_numpy(), unknown, unknown, matrices, ("",) * 5)


def measured(dyads: Dyads, which: str) -> Dyads:
    return dyads if which == "all" else dyads.keep(np.isin(dyads.source, [0, 2, 3]))


@pytest.mark.parametrize("which", ["all", "sources"])
def test_t_is_netlms_and_p_that_of_rs_enumeration(in_r: dict[str, Any], five: Dyads, which: str) -> None:
    dyads, perms, expected = measured(five, which), label_permutations(5, 1, seed=0), in_r[which]
    observed = permuted_t(dyads, BOTH, perms, ranks=False)[0]
    np.testing.assert_allclose(observed, expected["netlm"]["t"][1:], rtol=1e-12)
    np.testing.assert_array_equal(np.sign(observed), np.sign(expected["netlm"]["coefficients"][1:]))
    found = mrqap(dyads, BOTH, perms, ranks=False)
    assert {name: p.p for name, p in found.items()} == pytest.approx(expected["dsp"], abs=1e-12)
    assert found["x1"].method == "MRQAP, double semi-partialling, |t| of values, all 120 permutations"


def test_one_predictor_alone_is_the_plain_permutation(five: Dyads) -> None:
    dyads, perms = measured(five, "sources"), label_permutations(5, 1, seed=0)
    alone = mrqap(dyads, ["x1"], perms, ranks=False)["x1"]
    assert alone.p == two_sided(permuted_correlations(dyads, ["x1"], "pearson", perms)[:, 0], perms).p


def test_ranks_are_those_of_a_fit_to_ranks(five: Dyads) -> None:
    import statsmodels.api as sm

    ranked = np.stack([stats.rankdata(five.at(name)) for name in BOTH], axis=1)
    fit = sm.OLS(stats.rankdata(five.outcome), sm.add_constant(ranked)).fit()
    observed = permuted_t(five, BOTH, label_permutations(5, 1, seed=0), ranks=True)[0]
    np.testing.assert_allclose(observed, fit.tvalues[1:], rtol=1e-10)


def test_ranks_are_invariant_to_monotone_transformations(five: Dyads) -> None:
    perms = label_permutations(5, 1, seed=0)
    stretched = {name: np.exp(2 * matrix) for name, matrix in five.predictors.items()}
    other = permuted_t(replace(five, predictors=stretched, outcome=five.outcome**3), BOTH, perms, ranks=True)
    np.testing.assert_allclose(other, permuted_t(five, BOTH, perms, ranks=True), rtol=1e-12)


def test_a_predictor_of_sources_only_is_residualised_where_it_is_known(five: Dyads) -> None:
    dyads = measured(five, "sources")
    perms = label_permutations(5, 1, seed=0, blocks={"sources": [0, 2, 3], "others": [1, 4]})
    gaps = {name: matrix.copy() for name, matrix in dyads.predictors.items()}
    gaps["x2"][[1, 1, 4, 4, 4], [0, 4, 1, 2, 3]] = np.nan
    found = permuted_t(replace(dyads, predictors=gaps), BOTH, perms, ranks=False)
    np.testing.assert_allclose(found, permuted_t(dyads, BOTH, perms, ranks=False), rtol=1e-12)
    assert np.isfinite(found).all()


def test_impossible_models_are_rejected(five: Dyads) -> None:
    perms = label_permutations(5, 1, seed=0)
    x1 = five.predictors["x1"]
    twice = replace(five, predictors={"x1": x1, "x2": 3 - 2 * x1})
    with pytest.raises(UnanswerableError, match=r"x1 \+ x2 are collinear at the 20 dyads"):
        mrqap(twice, BOTH, perms, ranks=False)
    exact = replace(five, outcome=five.at("x1") - five.at("x2"))
    with pytest.raises(UnanswerableError, match="determine leakage exactly"):
        mrqap(exact, BOTH, perms, ranks=False)
    by_one = replace(five, outcome=1 + five.at("x1"))
    with pytest.raises(UnanswerableError, match="determine leakage exactly"):
        mrqap(by_one, BOTH, perms, ranks=False)
    many = {f"x{k}": matrix for k, matrix in enumerate(np.random.default_rng(0).normal(size=(4, 5, 5)))}
    with pytest.raises(UnanswerableError, match="5 dyads leave no degrees of freedom with 4 predictors"):
        mrqap(replace(five, predictors=many).keep(np.arange(20) < 5), list(many), perms, ranks=False)
