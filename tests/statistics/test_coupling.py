"""The baseline's JS and cosine against source rates: ten personas, one baseline."""

import math
import warnings
from collections.abc import Iterator
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

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


def test_every_statement_stands_twice() -> None:
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


def test_few_personas_are_permuted_in_every_order() -> None:
    table = personas(6)
    row = coupled(table).loc[("pearson: source_rate ~ js", "dyadic")]
    rates, js = table["source_rate"].to_numpy(), table["js"].to_numpy()
    null = np.abs([np.corrcoef(order, js)[0, 1] for order in permutations(rates)])
    assert row["resamples"] == 720
    assert row["p"] == pytest.approx((null >= null[0] - 1e-12).mean())
    assert row["smallest_p"] == pytest.approx(1 / 720)
    assert row["seed"] is pd.NA


def test_eight_personas_are_permuted_in_every_order_and_nine_are_not() -> None:
    for n, method, resamples in ((8, "exact", 40_320), (9, "sampled", 499)):
        row = coupled(personas(n)[["persona", "source_rate", "js"]]).loc[("pearson: source_rate ~ js", "dyadic")]
        assert row["method"].endswith(f"permutation of personas' labels, {method}")
        assert row["resamples"] == resamples


def test_many_personas_are_permuted_with_the_plus_one_rule_from_the_seed() -> None:
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
    # as many independent personas as would have given this width by Bonett & Wright's error
    assert row["n_effective"] == pytest.approx(3 + (1 + row["estimate"] ** 2 / 2) * (1.959964 / half) ** 2, rel=1e-6)


def test_the_persona_that_carries_the_result_is_named() -> None:
    rng = np.random.default_rng(2)
    table = personas(12).assign(js=rng.random(12))
    table.loc[3, ["js", "source_rate"]] = [40.0, 50.0]
    note = coupled(table).loc[("pearson: source_rate ~ js", "dyadic"), "note"]
    assert note.endswith("persona_3 moves it most")


def test_where_leaving_a_persona_out_leaves_nothing_there_is_no_interval_but_a_p() -> None:
    table = personas(6).assign(source_rate=[0, 0, 0, 0.5, 0, 0])
    row = coupled(table).loc[("pearson: source_rate ~ js", "dyadic")]
    assert math.isnan(row["low"])
    assert "without persona_3 nothing varies" in row["note"]
    assert row["p"] >= row["smallest_p"] >= 1 / 6


def test_perfect_correlations_are_clipped_and_said_to_be() -> None:
    table = personas(5).assign(source_rate=lambda t: t["js"] / 2)
    row = coupled(table).loc[("spearman: source_rate ~ js", "dyadic")]
    assert row["low"] == row["high"] == pytest.approx(1, abs=2e-6)
    assert "6 of 6 correlations are ±1 and were clipped" in row["note"]
    difference = coupled(table).loc[("difference of |pearson|: source_rate ~ js − cosine_l10", "iid")]
    assert difference["note"].startswith("cannot be answered, because correlations of 1,")


def test_personas_that_nobody_measured_are_left_out_of_that_predictor_alone() -> None:
    table = personas(9)
    table.loc[[0, 1], "cosine_l10"] = math.nan
    rows = coupled(table)
    assert rows["n"].tolist() == [9] * 4 + [7] * 8


def test_constant_rates_cannot_be_answered() -> None:
    rows = coupled(personas(9).assign(source_rate=1.0))
    of_rates = rows[rows["outcome"] == "source_rate"]
    assert of_rates["note"].str.contains("cannot be answered, because source_rate is the same in every persona").all()
    assert of_rates["p"].isna().all()
    assert rows.loc["pearson: js ~ cosine_l10", "p"].notna().all()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_than_four_personas_give_one_statement_that_says_so(n: int) -> None:
    rows = coupled(personas(n))
    assert rows["note"].tolist() == [
        f"cannot be answered, because {n} personas have a source rate; coupling takes at least 4"
    ]
    assert len(coupled(personas(4))) == 12


def test_without_a_predictor_there_is_one_statement_that_says_so() -> None:
    rows = coupled(personas(8)[["persona", "source_rate"]])
    assert rows["note"].tolist() == ["cannot be answered, because no JS and no cosine to the baseline is known"]
