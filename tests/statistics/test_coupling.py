"""Coupling of JS and cosine to the baseline with source rates, for ten personas."""

import math
import warnings
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from persona_assets.statistics.all_statements import coupling_table
from persona_assets.statistics.coupling import couple
from persona_assets.statistics.statement import tabulate


@pytest.fixture(autouse=True)
def no_library_warns() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def personas(n: int, seed: int = 0) -> pd.DataFrame:
    rate, js, cosine = np.random.default_rng(seed).random((3, n))
    names = [f"persona_{place}" for place in range(n)]
    return pd.DataFrame({"persona": names, "source_rate": rate, "js": js + rate, "cosine_l10": cosine - rate})


def coupled(table: pd.DataFrame, permutations: int = 499, seed: int = 1) -> pd.DataFrame:
    return tabulate(couple(table, 0.95, permutations, seed)).set_index(["name", "view"])


def test_every_statement_has_an_iid_and_a_dyadic_row() -> None:
    rows = coupled(personas(9))
    names = [
        "pearson: source_rate ~ js",
        "spearman: source_rate ~ js",
        "pearson: source_rate ~ cosine_l10",
        "spearman: source_rate ~ cosine_l10",
        "pearson: js ~ cosine_l10",
        "difference of |pearson|: source_rate ~ js − cosine_l10",
    ]
    assert list(rows.index) == [(name, view) for name in names for view in ("iid", "dyadic")]
    assert rows[["estimate", "low", "high", "p", "smallest_p"]].notna().all(axis=None)
    assert (rows["family"] == "coupling").all()
    assert rows["structure"].str.contains("share the one baseline").all()
    assert (rows["n"] == 9).all()


def test_permutations_of_few_personas_are_enumerated() -> None:
    table = personas(6)
    row = coupled(table).loc[("pearson: source_rate ~ js", "dyadic")]
    rates, js = table["source_rate"].to_numpy(), table["js"].to_numpy()
    null = np.abs([np.corrcoef(order, js)[0, 1] for order in permutations(rates)])
    assert row["resamples"] == 720
    assert row["p"] == pytest.approx((null >= null[0] - 1e-12).mean())
    assert row["smallest_p"] == pytest.approx(1 / 720)
    assert row["seed"] is pd.NA


def test_permutations_are_enumerated_for_eight_personas_but_not_nine() -> None:
    for n, method, resamples in ((8, "exact", 40_320), (9, "sampled", 499)):
        row = coupled(personas(n)[["persona", "source_rate", "js"]]).loc[("pearson: source_rate ~ js", "dyadic")]
        assert row["method"].endswith(f"permutation of personas' labels, {method}")
        assert row["resamples"] == resamples


def test_random_permutations_use_the_seed_and_the_plus_one_rule() -> None:
    table = personas(12).assign(js=lambda t: t["source_rate"] ** 2)
    row = coupled(table, permutations=199).loc[("pearson: source_rate ~ js", "dyadic")]
    assert row["p"] == row["smallest_p"] == 1 / 200
    assert row["seed"] == 1
    assert coupled(personas(12)).equals(coupled(personas(12)))
    assert not coupled(personas(12)).equals(coupled(personas(12), seed=2))


def test_spearman_permuted_is_near_its_iid_p() -> None:
    rows = coupled(personas(30, seed=4).assign(js=lambda t: np.roll(t["js"], 3)), permutations=20_000)
    of = rows.loc["spearman: source_rate ~ js"]
    assert of.loc["dyadic", "p"] == pytest.approx(of.loc["iid", "p"], abs=0.02)
    assert of.loc["dyadic", "estimate"] == of.loc["iid", "estimate"]


def test_the_jackknife_is_that_of_its_formula() -> None:
    table = personas(10)
    row = coupled(table).loc[("spearman: source_rate ~ js", "dyadic")]
    z = [math.atanh(stats.spearmanr(left["js"], left["source_rate"])[0]) for left in map(table.drop, range(10))]
    half = stats.t.ppf(0.975, 9) * math.sqrt(9 / 10 * np.var(z) * 10)
    assert math.atanh(row["low"]) == pytest.approx(math.atanh(row["estimate"]) - half)
    assert math.atanh(row["high"]) == pytest.approx(math.atanh(row["estimate"]) + half)
    # the number of independent personas with this width by Bonett & Wright's standard error
    assert row["n_effective"] == pytest.approx(3 + (1 + row["estimate"] ** 2 / 2) * (1.959964 / half) ** 2, rel=1e-6)


def test_the_most_influential_persona_is_named() -> None:
    rng = np.random.default_rng(2)
    table = personas(12).assign(js=rng.random(12))
    table.loc[3, ["js", "source_rate"]] = [40.0, 50.0]
    note = coupled(table).loc[("pearson: source_rate ~ js", "dyadic"), "note"]
    assert note.endswith("persona_3 has the largest influence")


def test_if_leaving_a_persona_out_makes_a_variable_constant_there_is_p_but_no_interval() -> None:
    table = personas(6).assign(source_rate=[0, 0, 0, 0.5, 0, 0])
    row = coupled(table).loc[("pearson: source_rate ~ js", "dyadic")]
    assert math.isnan(row["low"])
    assert "without persona_3 a variable is constant" in row["note"]
    assert row["p"] >= row["smallest_p"] >= 1 / 6


def test_perfect_correlations_are_clipped_with_a_note() -> None:
    table = personas(5).assign(source_rate=lambda t: t["js"] / 2)
    row = coupled(table).loc[("spearman: source_rate ~ js", "dyadic")]
    assert row["low"] == row["high"] == pytest.approx(1, abs=2e-6)
    assert "6 of 6 correlations are ±1 and are clipped" in row["note"]
    difference = coupled(table).loc[("difference of |pearson|: source_rate ~ js − cosine_l10", "iid")]
    assert difference["note"].startswith("not computed: correlations of 1,")


def test_unmeasured_personas_are_left_out_per_predictor() -> None:
    table = personas(9)
    table.loc[[0, 1], "cosine_l10"] = math.nan
    rows = coupled(table)
    assert rows["n"].tolist() == [9] * 4 + [7] * 8


def test_constant_rates_are_not_computed() -> None:
    rows = coupled(personas(9).assign(source_rate=1.0))
    of_rates = rows[rows["outcome"] == "source_rate"]
    assert of_rates["note"].str.contains("not computed: source_rate is the same in every persona").all()
    assert of_rates["p"].isna().all()
    assert rows.loc["pearson: js ~ cosine_l10", "p"].notna().all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_than_four_personas_give_one_statement_with_the_reason(n: int) -> None:
    rows = coupled(personas(n))
    assert rows["note"].tolist() == [f"not computed: {n} personas have a source rate; coupling needs at least 4"]
    assert len(coupled(personas(4))) == 12


def test_without_a_predictor_there_is_one_statement_with_the_reason() -> None:
    rows = coupled(personas(8)[["persona", "source_rate"]])
    assert rows["note"].tolist() == ["not computed: neither a JS nor a cosine to the baseline is known"]


def test_the_expected_rate_stands_in_where_nothing_was_sampled() -> None:
    pairs = pd.DataFrame({"source": ["villain", "comedian"], "target": "assistant", "js": [0.1, 0.2]})
    sampled = pairs.assign(source_rate=[0.5, np.nan], source_expected_rate=[0.4, 0.3])
    assert coupling_table(sampled, "assistant")[["persona", "source_rate"]].to_numpy().tolist() == [["villain", 0.5]]
    expected = coupling_table(sampled.assign(source_rate=np.nan), "assistant")
    assert expected[["persona", "source_rate"]].to_numpy().tolist() == [["villain", 0.4], ["comedian", 0.3]]
    assert coupling_table(pairs, "assistant").empty
