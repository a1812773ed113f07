"""QAP, checked against R's enumeration and against the definition."""

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.labels import label_permutations, relabelling_blocks
from persona_assets.statistics.permutation import largest_of, permuted_correlations, two_sided
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import Coefficient

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "reference" / "qwen2.5-7b-instruct"


@pytest.fixture(scope="module")
def in_r() -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((FIXTURES / "qap.json").read_text())
    return numbers


@pytest.fixture(scope="module")
def five() -> Dyads:
    return as_dyads(pd.read_csv(FIXTURES / "qap.csv"), 5, ["x1", "x2"])


def as_dyads(table: pd.DataFrame, personas: int, predictors: list[str]) -> Dyads:
    source, target = table["source"].to_numpy(), table["target"].to_numpy()
    matrices = {name: np.full((personas, personas), np.nan) for name in predictors}
    for name, matrix in matrices.items():
        matrix[source, target] = table[name]
    unknown = np.full(len(table), np.nan)
    names = tuple(f"persona_{place}" for place in range(personas))
    return Dyads(names, source, target, table["y"].to_numpy(), unknown, unknown, matrices, ("",) * personas)


def measured(dyads: Dyads, which: str) -> Dyads:
    return dyads if which == "all" else dyads.keep(np.isin(dyads.source, [0, 2, 3]))


@pytest.mark.parametrize("which", ["all", "sources"])
@pytest.mark.parametrize("coefficient", ["pearson", "spearman"])
def test_every_p_of_an_enumeration_is_rs(
    in_r: dict[str, Any], five: Dyads, which: str, coefficient: Coefficient
) -> None:
    perms = label_permutations(5, 1, seed=0)
    samples = permuted_correlations(measured(five, which), ["x1", "x2"], coefficient, perms)
    for column, name in enumerate(("x1", "x2")):
        expected = in_r[which]["qap"][coefficient][name]
        p = two_sided(samples[:, column], perms)
        assert samples[0, column] == pytest.approx(expected["observed"], abs=1e-12)
        assert p.p == pytest.approx(expected["p"], abs=1e-12)
        assert (p.smallest, p.resamples, p.method) == (1 / 120, 120, "QAP, all 120 permutations")


def test_the_observed_statistic_is_snas(in_r: dict[str, Any], five: Dyads) -> None:
    observed = permuted_correlations(five, ["x1"], "pearson", label_permutations(5, 1, seed=0))[0, 0]
    assert observed == pytest.approx(in_r["gcor"], abs=1e-12)
    assert observed == pytest.approx(in_r["qaptest"], abs=1e-12)


@pytest.mark.parametrize("which", ["all", "sources"])
def test_the_largest_of_two_looks_is_rs(in_r: dict[str, Any], five: Dyads, which: str) -> None:
    perms = label_permutations(5, 1, seed=0)
    samples = permuted_correlations(measured(five, which), ["x1", "x2"], "pearson", perms)
    expected = in_r[which]["largest_of"]
    np.testing.assert_allclose(largest_of(samples), [expected["x1"], expected["x2"]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", ["all", "sources"])
def test_ties_are_reranked_under_every_relabelling(five: Dyads, which: str) -> None:
    coarse = {name: np.round(matrix) for name, matrix in five.predictors.items()}
    dyads = measured(replace(five, predictors=coarse, outcome=np.round(five.outcome, 1)), which)
    perms = label_permutations(5, 1, seed=0)
    samples = permuted_correlations(dyads, ["x1"], "spearman", perms)[:, 0]
    written_out = [
        stats.spearmanr(coarse["x1"][places[dyads.source], places[dyads.target]], dyads.outcome).statistic
        for places in perms.places
    ]
    np.testing.assert_allclose(samples, written_out, rtol=0, atol=1e-12)


def test_one_look_needs_no_correction(five: Dyads) -> None:
    perms = label_permutations(5, 1, seed=0)
    samples = permuted_correlations(five, ["x2"], "pearson", perms)
    assert largest_of(samples)[0] == two_sided(samples[:, 0], perms).p


def test_random_permutations_count_the_observed_one_too() -> None:
    perms = label_permutations(9, 99, seed=0)
    samples = np.array([0.5, *np.linspace(-0.6, 0.0, 99)])
    # −0.6 to −0.5 in steps of 0.6/98: 17 of them, and the observed one
    found = two_sided(samples, perms)
    assert (found.p, found.smallest, found.resamples) == (18 / 100, 1 / 100, 99)
    assert found.method == "QAP, random 99 permutations"


def test_relabellings_that_make_a_variable_constant_count_as_zero_with_a_note() -> None:
    # x differs at one ordered pair only, which most relabellings move out of the two sources' dyads
    source, target = np.array([(s, t) for s in (0, 1) for t in range(6) if s != t]).T
    x = np.where(np.eye(6, dtype=bool), np.nan, 0.0)
    x[0, 1] = 1.0
    unknown = np.full(10, np.nan)
    dyads = Dyads(tuple("abcdef"), source, target, np.arange(10.0), unknown, unknown, {"x": x}, ("",) * 6)
    perms = label_permutations(6, 1, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = permuted_correlations(dyads, ["x"], "spearman", perms)[:, 0]
    # x is mapped to one of 10 dyads of 30 ordered pairs; only the lowest and highest leakage are as extreme as observed
    found = two_sided(samples, perms)
    assert np.isnan(samples).sum() == 480
    assert found.p == pytest.approx(2 / 30)
    assert "480 of 720 relabellings make a variable constant" in found.note
    assert largest_of(samples[:, None])[0] == pytest.approx(2 / 30)


def test_impossible_permutation_tests_are_rejected(five: Dyads) -> None:
    perms = label_permutations(5, 1, seed=0)
    gap = {"x1": five.predictors["x1"].copy()}
    gap["x1"][4, 1] = np.nan
    cases = [
        (replace(five, outcome=np.full(20, 0.5)), "leakage is 0.5 in all 20 dyads"),
        (replace(five, predictors={"x1": np.ones((5, 5))}), "x1 is 1 in all 20 dyads"),
        (five.keep(np.arange(20) < 3), "there are 3 dyads; a correlation needs at least 4"),
        (replace(measured(five, "sources"), predictors=gap), "x1 is unknown in 1 of the 20 ordered pairs"),
    ]
    for dyads, because in cases:
        with pytest.raises(UnanswerableError, match=because):
            permuted_correlations(dyads, ["x1"], "spearman", perms)
    with pytest.raises(UnanswerableError, match="is undefined for the observed labels"):
        two_sided(np.array([math.nan, 0.1]), perms)


def test_chunking_does_not_change_results(five: Dyads, monkeypatch: pytest.MonkeyPatch) -> None:
    perms = label_permutations(5, 1, seed=0)
    whole = permuted_correlations(measured(five, "sources"), ["x1", "x2"], "spearman", perms)
    monkeypatch.setattr("persona_assets.statistics.chunks._NUMBERS", 25 * 7)
    parts = permuted_correlations(measured(five, "sources"), ["x1", "x2"], "spearman", perms)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-15)


@pytest.fixture(scope="module")
def published() -> Dyads:
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published run is not there: {PUBLISHED}")
    js = json.loads((PUBLISHED / "divergence_matrices.json").read_text())
    cosine = json.loads((PUBLISHED / "cosine_11_l20.json").read_text())
    assert js["persona_names"] == cosine["persona_names"]
    table = pd.read_csv(PUBLISHED / "dyads50.csv")
    source, target = (table[side].map(js["persona_names"].index).to_numpy() for side in ("source", "target"))
    centred111 = np.full((11, 11), np.nan)
    centred111[source, target] = centred111[target, source] = table["cosine_l20_centred111"]
    diagonal = np.eye(11, dtype=bool)
    predictors = {
        "js": np.where(diagonal, np.nan, js["js_matrix"]),
        "cosine": np.where(diagonal, np.nan, cosine["cosine_matrix_l20"]),
        "centred111": centred111,
    }
    unknown = np.full(50, np.nan)
    rate = table["leakage_rate"].to_numpy()
    return Dyads(tuple(js["persona_names"]), source, target, rate, unknown, unknown, predictors, ("",) * 11)


def test_the_references_qap_is_reproduced(published: Dyads) -> None:
    perms = label_permutations(11, 100_000, seed=0)
    samples = permuted_correlations(published, ["js", "cosine"], "spearman", perms)
    difference = np.abs(samples[:, 0]) - np.abs(samples[:, 1])
    np.testing.assert_allclose(samples[0], [-0.7456, 0.5674], rtol=0, atol=5e-5)
    # shared/reference/README.md: JS p ≈ .002, cosine p ≈ .0007, their difference p ≈ .30, within three standard errors
    # of the 10,000 permutations that such a number comes from
    for values, p in ((samples[:, 0], 0.002), (samples[:, 1], 0.0007), (difference, 0.30)):
        assert abs(two_sided(values, perms).p - p) < 3 * math.sqrt(p * (1 - p) / 10_000)


def test_the_cosine_centred_on_111_is_relabelled_within_sources_and_others(published: Dyads) -> None:
    with pytest.raises(UnanswerableError, match="centred111 is unknown in 30 of the 110 ordered pairs"):
        permuted_correlations(published, ["centred111"], "spearman", label_permutations(11, 10, seed=0))
    perms = label_permutations(11, 2000, seed=0, blocks=relabelling_blocks(published, ["js", "centred111"]))
    samples = permuted_correlations(published, ["js", "centred111"], "spearman", perms)
    assert samples[0, 1] == pytest.approx(0.763, abs=5e-4)
    found = two_sided(samples[:, 1], perms)
    assert found.p < 0.01
    assert found.structure == "labels exchangeable among the 5 sources and among the 6 others"
