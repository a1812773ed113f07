"""Degenerate studies: every row without a number says why, and no library warns."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pingouin  # noqa: F401  (imported before warnings become errors, because its import warns)
import pytest
import statsmodels.api  # noqa: F401
import xarray as xr

from persona_assets.presentation import statements_markdown
from persona_assets.statistics import COLUMNS, infer, verdict

QUICK: dict[str, Any] = {"permutations": 200, "resamples": 200, "simulations": 5}
OUTCOME = ["leakage_found", "leakage_total", "leakage_rate"]
COSINES = ["cosine_study_layer3", "cosine_study_layer9"]
JS = ["js", "js_all", "js_source"]
MakePairTable = Callable[..., pd.DataFrame]
Spoil = Callable[[MakePairTable], pd.DataFrame]


def only(table: pd.DataFrame, kept: Any) -> pd.DataFrame:
    """Keep the outcome of these dyads only."""
    return table.assign(**{name: table[name].where(kept) for name in OUTCOME})


def everywhere(table: pd.DataFrame, rate: float) -> pd.DataFrame:
    found = (table["leakage_total"] * rate).astype("Int64")
    return table.assign(leakage_found=found, leakage_rate=found.astype("Float64") / table["leakage_total"])


def two_values(table: pd.DataFrame) -> pd.DataFrame:
    split = {name: np.where(table[name] > table[name].median(), 0.04, 0.01) for name in [*JS, *COSINES]}
    found = (table["leakage_rate"] > 0.5).astype("Int64").mask(table["leakage_rate"].isna()) * 40
    return table.assign(**split, leakage_found=found, leakage_rate=found / table["leakage_total"])


def half_missing(table: pd.DataFrame) -> pd.DataFrame:
    return only(table, np.random.default_rng(1).random(len(table)) < 0.5)


def unknown_js(table: pd.DataFrame) -> pd.DataFrame:
    gone = table.index.isin([1, 2, 20, 33])
    return table.assign(js=table["js"].mask(gone), js_all=table["js_all"].mask(gone))


def never_beside_leakage(table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    return table.assign(**{name: table[name].mask(table["leakage_rate"].notna()) for name in columns})


ANSWERED = "cannot tell which is better"
# name → how the study is made, and the expected end of the verdict
STUDIES: dict[str, tuple[Spoil, str]] = {
    "one source": (lambda make: make(sources=1), "there is 1 source; resampling whole sources needs at least 3."),
    "two sources": (lambda make: make(sources=2), "there are 2 sources; resampling whole sources needs at least 3."),
    "no leakage anywhere": (lambda make: everywhere(make(), 0), "leakage_rate is the same in every dyad."),
    "leakage everywhere": (lambda make: everywhere(make(), 1), "leakage_rate is the same in every dyad."),
    "ties everywhere": (lambda make: two_values(make()), ANSWERED),
    "half of the dyads missing": (lambda make: half_missing(make()), ANSWERED),
    "one persona": (lambda make: make(personas=1, sources=1), "the pair table has 0 personas"),
    "two personas": (lambda make: make(personas=2, sources=2), "js is the same in every dyad."),
    "three personas": (lambda make: make(personas=3, sources=3), ANSWERED),
    "four personas": (lambda make: make(personas=4, sources=4), ANSWERED),
    "no cosine": (lambda make: make().drop(columns=COSINES), "the pair table has no cosine column."),
    "no JS": (lambda make: make().drop(columns=JS), "the pair table has no js column."),
    "no leakage": (lambda make: make().drop(columns=OUTCOME), "leakage was measured in no dyad."),
    "rates without counts": (lambda make: make().drop(columns=OUTCOME[:2]), ANSWERED),
    "one target": (lambda make: (t := make(sources=8)).pipe(only, t["target"] == "assistant"), "there is 1 target; "),
    "JS unknown here and there": (lambda make: unknown_js(make()), "js is unknown in 4 of the 40 ordered pairs that"),
    "JS unknown beside leakage": (
        lambda make: never_beside_leakage(make(), JS),
        "no dyad has both leakage and js.",
    ),
    "cosines unknown beside leakage": (
        lambda make: never_beside_leakage(make(), COSINES),
        "no dyad has both leakage and cosine_study_layer9.",
    ),
    "a JS that is the same": (lambda make: make().assign(js=0.02, js_all=0.02), "js is the same in every dyad."),
    "cosines that are the same": (
        lambda make: make().assign(**dict.fromkeys(COSINES, 0.5)),
        "cosine_study_layer9 is the same in every dyad.",
    ),
    "cosines that are JS": (lambda make: (t := make()).assign(**dict.fromkeys(COSINES, -t["js"])), ANSWERED),
    "leakage that is JS": (
        lambda make: (t := make()).assign(leakage_rate=(1 - 10 * t["js"]).where(t["leakage_rate"].notna())),
        ANSWERED,
    ),
    "one reply a dyad": (lambda make: make(total=1), ANSWERED),
    "huge totals": (lambda make: make(total=10**15), ANSWERED),
    "an empty table": (lambda make: make().iloc[:0], "the pair table has 0 personas; a dyad needs two."),
}


@pytest.fixture(autouse=True)
def no_library_warns() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("study", STUDIES)
def test_statements_that_cannot_be_computed_say_why(
    study: str, make_pair_table: MakePairTable, make_by_question: Callable[[pd.DataFrame], xr.DataArray]
) -> None:
    spoil, words = STUDIES[study]
    table = spoil(make_pair_table)
    by_question = make_by_question(table) if "js" in table and len(table) > 2 else None
    statements = infer(table, "assistant", by_question=by_question, **QUICK)

    assert statements.dtypes.astype(str).to_dict() == COLUMNS
    says_why = statements["note"].str.startswith(("not computed: ", "more than "))
    assert statements.loc[statements["estimate"].isna() & ~says_why, "name"].tolist() == []
    assert not statements["note"].str.contains(r"\bnan\b", case=False).any()
    assert not np.isinf(statements.select_dtypes("float64")).to_numpy().any()
    assert not (statements["low"] > statements["high"]).any()
    assert not statements.duplicated(["name", "view", "method", "note"]).any()
    # every number has a method
    sure = statements[(statements["view"] != "check") & statements["estimate"].notna()]
    assert (sure["method"] != "").all()

    found = verdict(statements)
    assert words in found.words
    assert ("not computed: " in found.words) == (words != ANSWERED)
    assert "nan" not in found.words
    # the verdict is readable
    assert statements_markdown(statements).count("\n") >= 2


def test_constant_leakage_gives_no_statement_about_leakage(make_pair_table: MakePairTable) -> None:
    statements = infer(everywhere(make_pair_table(), 0), "assistant", **QUICK)
    about = statements[statements["outcome"].isin(["leakage_rate", "leakage_found / leakage_total"])]
    assert len(about) > 100
    assert about["estimate"].isna().all()
    # pairs and coupling do not need leakage of dyads
    assert statements.loc[statements["family"].isin(["pairs", "coupling"]), "estimate"].notna().all()


def test_the_smallest_p_of_three_personas_is_reported(make_pair_table: MakePairTable) -> None:
    statements = infer(make_pair_table(personas=3, sources=3), "assistant", **QUICK)
    row = statements[(statements["name"] == "spearman: leakage_rate ~ js") & (statements["view"] == "dyadic")].iloc[0]
    assert row["smallest_p"] == 1 / 6
    assert row["p"] >= 1 / 6
    assert verdict(statements).rule("JS predicts").outcome != "predicts"


def test_coupling_of_two_personas_is_not_computed(make_pair_table: MakePairTable) -> None:
    rates = pd.DataFrame({"persona": ["a", "b"], "source_rate": [0.5, 0.7], "js": [0.1, 0.2], "cosine_l3": [0.3, 0.1]})
    statements = infer(make_pair_table(), "assistant", source_rates=rates, **QUICK)
    coupling = statements[statements["family"] == "coupling"]
    why = "not computed: 2 personas have a source rate; coupling needs at least 4"
    assert coupling["note"].tolist() == [why]


def test_with_an_unknown_baseline_only_coupling_is_not_computed(make_pair_table: MakePairTable) -> None:
    statements = infer(make_pair_table(), "nobody", **QUICK)
    coupling = statements.loc[statements["family"] == "coupling", "note"]
    assert coupling.str.startswith("not computed: 0 personas have a source rate").all()
    assert not statements["quantity"].str.contains("without the baseline").any()
    assert ANSWERED in verdict(statements).words


def test_rates_without_counts_still_correlate(make_pair_table: MakePairTable) -> None:
    table = make_pair_table()
    counted, rates = (infer(t, "assistant", **QUICK) for t in (table, table.drop(columns=OUTCOME[:2])))
    numbers = ["estimate", "low", "high", "p"]
    leakage = [rows.loc[rows["family"] == "leakage", numbers].reset_index(drop=True) for rows in (counted, rates)]
    pd.testing.assert_frame_equal(*leakage)
    odds = rates[rates["quantity"] == "slope of the log odds per sd"]
    assert set(odds["note"]) == {"not computed: only rates are known, not counts"}


def test_kendall_reports_how_many_sources_it_cannot_leave_out(make_pair_table: MakePairTable) -> None:
    table = make_pair_table()
    of_one = table.assign(leakage_rate=table["leakage_rate"].where(table["source"] == "persona_0", 0.0 * table["js"]))
    of_one["leakage_rate"] = of_one["leakage_rate"].mask(table["leakage_rate"].isna())
    for study, why in (
        (make_pair_table(sources=1), "there are 1 units to leave out; a jackknife needs at least 3"),
        (of_one, "the estimate is undefined for 1 of the 5 units left out in turn"),
    ):
        rows = infer(study, "assistant", **QUICK)
        kendall = rows[(rows["name"] == "kendall: leakage_rate ~ js") & (rows["view"] == "dyadic")]
        assert kendall["note"].tolist() == [f"not computed: {why}"]
