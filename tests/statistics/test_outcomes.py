"""Statements about each outcome: the chosen one in the verdict, the others beside it, trained negatives told apart."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import ValidationError
from scipy import stats

from persona_assets.statistics import infer, outcome_column, trend, verdict
from persona_assets.statistics.dyads import read_dyads
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.negatives import WITHOUT, negatives
from persona_assets.statistics.families.sample import Settings
from persona_assets.statistics.variance_components import variance_components
from persona_assets.study.settings import Statistics
from tests.statistics.made_replies import made_study

QUICK: dict[str, Any] = {"permutations": 100, "resamples": 100, "simulations": 5}
MakePairTable = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def table(make_pair_table: MakePairTable) -> pd.DataFrame:
    return make_pair_table(personas=8, sources=4)


@pytest.fixture(scope="module")
def study(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make a pair table with all outcomes and two negatives per source, and its replies with three seeds."""
    pair_table, by_reply = made_study(table, seeds=3)
    measured = pair_table["leakage_rate"].notna()
    negative = pair_table["target"].isin(["persona_5", "persona_6"])
    return pair_table.assign(
        trained_negative=pd.array(np.where(measured, negative, None), dtype="boolean"),
        negative_share=np.where(measured, 0.1 * negative, np.nan),
    ), by_reply


@pytest.fixture(scope="module")
def by_default(
    study: tuple[pd.DataFrame, pd.DataFrame], make_by_question: Callable[[pd.DataFrame], xr.DataArray]
) -> pd.DataFrame:
    pair_table, by_reply = study
    return infer(pair_table, "assistant", by_reply=by_reply, by_question=make_by_question(pair_table), **QUICK)


@pytest.fixture(scope="module")
def plain(table: pd.DataFrame) -> pd.DataFrame:
    return infer(table, "assistant", **QUICK)


def test_a_study_names_its_outcome_and_keeps_its_digest_without_one() -> None:
    assert Statistics(outcome="log_prob_gain").model_dump()["outcome"] == "log_prob_gain"
    assert "outcome" not in Statistics().model_dump()
    with pytest.raises(ValidationError, match="Input should be 'expected_rate', 'rate' or 'log_prob_gain'"):
        Statistics.model_validate({"outcome": "leakage_rate"})


def rows_of(statements: pd.DataFrame, family: str, quantity: str, view: str = "dyadic") -> pd.DataFrame:
    chosen = (statements["family"] == family) & (statements["quantity"] == quantity) & (statements["view"] == view)
    return statements[chosen]


def test_the_default_is_the_expected_rate_where_there_is_one(study: Any, table: pd.DataFrame) -> None:
    pair_table, _ = study
    assert outcome_column(pair_table, None) == "expected_rate"
    assert outcome_column(table, None) == "leakage_rate"
    assert outcome_column(table.assign(expected_rate=np.nan), None) == "leakage_rate"
    assert outcome_column(table, "log_prob_gain") == "log_prob_gain"
    with pytest.raises(
        ValueError, match=r"^statistics.outcome: found 'score'; expected one of expected_rate, rate, log_prob_gain$"
    ):
        infer(table, "assistant", outcome="score", **QUICK)


def test_every_statement_of_the_main_families_is_about_the_chosen_outcome(by_default: pd.DataFrame) -> None:
    main = by_default[by_default["family"].isin(["leakage", "comparison", "models", "influence", "looks", "power"])]
    assert set(main["outcome"]) == {"expected_rate"}
    assert set(by_default.loc[by_default["family"] == "outcomes", "outcome"]) == {"leakage_rate", "log_prob_gain"}


def test_correlations_are_those_of_the_outcomes_own_column(study: Any, by_default: pd.DataFrame) -> None:
    pair_table, _ = study
    measured = pair_table[pair_table["leakage_rate"].notna()]
    for family, outcome in (("leakage", "expected_rate"), ("outcomes", "log_prob_gain"), ("outcomes", "leakage_rate")):
        rows = rows_of(by_default, family, "spearman").set_index(["outcome", "predictor"])
        for predictor in ("js", "cosine_study_layer3", "cosine_study_layer9"):
            expected = stats.spearmanr(measured[outcome], measured[predictor]).statistic
            row = rows.loc[(outcome, predictor)]
            assert row["estimate"] == pytest.approx(expected, abs=1e-9)
            assert row["low"] < row["high"]
            assert 0 < row["p"] <= 1


def test_the_other_outcomes_have_differences_too(by_default: pd.DataFrame) -> None:
    rows = rows_of(by_default, "outcomes", "difference of |spearman|")
    assert len(rows) == 2 * 2
    assert rows["estimate"].notna().all()


def test_a_named_outcome_swaps_places_with_the_default(study: Any, by_default: pd.DataFrame) -> None:
    pair_table, by_reply = study
    gain = infer(pair_table, "assistant", outcome="log_prob_gain", by_reply=by_reply, **QUICK)
    numbers = ["predictor", "estimate", "low", "high", "p"]
    for one, other, outcome in ((gain, by_default, "expected_rate"), (by_default, gain, "log_prob_gain")):
        beside = rows_of(one, "outcomes", "spearman")
        main = rows_of(other, "leakage", "spearman")
        np.testing.assert_array_equal(beside[beside["outcome"] == outcome][numbers], main[numbers])
    assert verdict(gain).words.split(";")[0].endswith("leakage (gain in log-probability)")
    floor = gain[gain["quantity"] == "sources on the floor"].iloc[0]
    assert (floor["estimate"], floor["note"]) == (0, "none: gain in log-probability has none")


def test_a_study_with_only_rates_has_the_numbers_of_the_outcome_rate(plain: pd.DataFrame, study: Any) -> None:
    named = infer(study[0], "assistant", outcome="rate", **QUICK)
    assert verdict(plain).rule("other outcomes").outcome == "no other outcome"
    added = named["family"].isin(["outcomes", "negatives"])
    numbers = ["name", "view", "method", "estimate", "low", "high", "p"]
    without = plain[plain["family"] != "negatives"]
    pd.testing.assert_frame_equal(
        named.loc[~added, numbers].reset_index(drop=True), without[numbers].reset_index(drop=True), check_exact=True
    )


def test_an_outcome_that_was_not_measured_is_named(table: pd.DataFrame) -> None:
    rows = infer(table, "assistant", outcome="log_prob_gain", **QUICK)
    assert rows["note"].tolist() == ["not computed: log_prob_gain of leakage was measured in no dyad"]
    assert verdict(rows).words.endswith("log_prob_gain of leakage was measured in no dyad.")


def test_reliability_of_every_outcome_with_replies(by_default: pd.DataFrame) -> None:
    for quantity in ("reliability, halves of questions", "reliability, training seeds"):
        rows = rows_of(by_default, "noise", quantity, "check").set_index("outcome")["estimate"]
        assert set(rows.index) == {"expected_rate", "log_prob_gain"}
        assert rows.between(0, 1).all()
    both = rows_of(by_default, "noise", "reliability, questions and seeds", "check")["estimate"]
    halves = rows_of(by_default, "noise", "reliability, halves of questions", "check")["estimate"]
    assert (both.to_numpy() < halves.to_numpy()).all()


def test_correlations_corrected_for_attenuation_are_larger_and_have_intervals(by_default: pd.DataFrame) -> None:
    corrected = rows_of(by_default, "noise", "spearman corrected for attenuation", "check")
    corrected = corrected.set_index(["outcome", "predictor"])
    main = rows_of(by_default, "leakage", "spearman").set_index("predictor")
    for predictor in ("js", "cosine_study_layer9"):
        row = corrected.loc[("expected_rate", predictor)]
        assert abs(row["estimate"]) >= abs(main.loc[predictor, "estimate"])
        assert row["low"] < row["high"]
        assert "each with its own reliability" in row["method"]


def test_variance_components_are_those_of_the_gain(study: Any, by_default: pd.DataFrame) -> None:
    _, by_reply = study
    expected = variance_components(by_reply[by_reply["outcome"] == "log_prob_gain"]).variance
    rows = by_default[by_default["quantity"].str.startswith("variance component: ")]
    assert set(rows["outcome"]) == {"log_prob_gain"}
    found = dict(zip(rows["quantity"].str.removeprefix("variance component: "), rows["estimate"], strict=True))
    assert found == pytest.approx(dict(expected))


def test_one_seed_has_no_seed_component_and_no_agreement(table: pd.DataFrame) -> None:
    pair_table, by_reply = made_study(table, seeds=1)
    rows = infer(pair_table, "assistant", by_reply=by_reply, **QUICK).set_index(["quantity", "outcome"])
    assert rows.loc[("variance component: seed", "log_prob_gain"), "note"].startswith(
        "not computed: it has the same levels as source in these data, which includes it"
    )
    assert "every source has one training seed" in rows.loc[("reliability, training seeds", "expected_rate"), "note"]
    seeds = rows.loc[("three more seeds or three more sources", "expected_rate"), "note"]
    assert seeds == "not computed: every source has one training seed, so the variance of seeds is not known"


def test_power_compares_three_more_seeds_with_three_more_sources(by_default: pd.DataFrame) -> None:
    rows = by_default[by_default["quantity"].str.endswith(" seeds each")]
    sizes = [(sources, seeds) for sources in (4, 7) for seeds in (3, 6)]
    assert rows["quantity"].tolist() == [f"power with {a} sources and {b} seeds each" for a, b in sizes]
    assert rows["estimate"].between(0, 1).all()
    assert rows["note"].str.contains("% of the variance between sources").all()


def test_measurement_error_of_a_continuous_outcome_is_that_of_its_questions(by_default: pd.DataFrame) -> None:
    row = rows_of(by_default, "noise", "reliability of leakage", "check").iloc[0]
    assert row["note"] == "over questions, of ranks"
    assert 0 < row["estimate"] <= 1
    counts = by_default[by_default["quantity"] == "slope of the log odds per sd"]
    assert counts.empty  # a binomial model is of counts
    assert (
        rows_of(by_default, "models", "slope of the expected rate per sd", "check")["method"].str.contains("REML").any()
    )


def test_results_without_negatives_are_those_of_a_table_without_them(study: Any, by_default: pd.DataFrame) -> None:
    pair_table, _ = study
    kept = pair_table[pair_table["leakage_rate"].notna() & ~pair_table["trained_negative"].fillna(True)]
    rows = rows_of(by_default, "negatives", f"spearman{WITHOUT}").set_index("predictor")
    for predictor in ("js", "cosine_study_layer9"):
        expected = stats.spearmanr(kept["expected_rate"], kept[predictor]).statistic
        assert rows.loc[predictor, "estimate"] == pytest.approx(expected, abs=1e-9)
        assert rows.loc[predictor, "n"] == len(kept)
    count = by_default[by_default["quantity"] == "trained negatives"].iloc[0]
    assert count["estimate"] == pair_table["trained_negative"].sum()
    partial = rows_of(by_default, "negatives", "partial spearman")
    assert partial["given"].tolist() == ["negative_share"] * 2
    assert partial["estimate"].notna().all()


def test_a_table_that_does_not_know_its_negatives_says_so(plain: pd.DataFrame, table: pd.DataFrame) -> None:
    (note,) = plain.loc[plain["family"] == "negatives", "note"]
    assert note == "not computed: the table does not say which targets were trained negatives of a source"
    assert verdict(plain).rule("negatives").outcome == "unknown"
    unknown = read_dyads(table.assign(trained_negative=pd.array([pd.NA] * len(table), "boolean")))
    (row,) = negatives(Inputs(unknown, "assistant", Settings(**QUICK), "", None, ()))
    assert row.row()["note"] == note


def test_a_relation_that_only_trained_negatives_make_is_found_out() -> None:
    # Nothing leaks by likeness; only the trained negatives have rate 0, and they happen to lie far from their source.
    rng = np.random.default_rng(0)
    names = ["assistant", *(f"p{number:02d}" for number in range(10))]
    trained = {source: set(rng.choice([n for n in names if n != source], 3, replace=False)) for source in names[:5]}
    js: dict[frozenset[str], float] = {}
    rows = []
    for source in names:
        for target in (name for name in names if name != source):
            negative = target in trained.get(source, ())
            either = negative or source in trained.get(target, ())
            pair = frozenset((source, target))
            js.setdefault(pair, 0.02 + 0.02 * rng.random() + 0.03 * either)
            measured = source in trained
            found = float(0 if negative else rng.binomial(40, 0.4)) if measured else np.nan
            rows.append((source, target, "x", "x", js[pair], rng.normal(), found, 40.0, negative if measured else None))
    columns = ["source", "target", "source_category", "target_category", "js", "cosine_study_layer1"]
    table = pd.DataFrame(rows, columns=[*columns, "leakage_found", "leakage_total", "trained_negative"])
    table["leakage_total"] = table["leakage_total"].where(table["leakage_found"].notna())
    table["leakage_rate"] = table["leakage_found"] / table["leakage_total"]
    table["trained_negative"] = table["trained_negative"].astype("boolean")
    found = verdict(infer(table, "assistant", permutations=500, resamples=200, simulations=5))
    assert found.rule("JS predicts").outcome == "predicts"
    assert found.rule("negatives").outcome == "depends on them"
    assert "Without the 15 dyads whose target was a trained negative, JS is not shown to predict leakage" in found.words


def test_a_trend_of_the_gain_is_the_least_squares_line(study: Any) -> None:
    pair_table, _ = study
    curve = trend(pair_table, ["js"], outcome="log_prob_gain")
    measured = pair_table[pair_table["log_prob_gain"].notna()]
    slope, intercept = np.polyfit(measured["js"], measured["log_prob_gain"], 1)
    np.testing.assert_allclose(curve["rate"], intercept + slope * curve["place"], rtol=1e-8)
    assert (curve["low"] < curve["rate"]).all()
    assert (curve["rate"] < curve["high"]).all()
    rates = trend(pair_table, ["js"], outcome="expected_rate")
    assert rates[["rate", "low", "high"]].stack().between(0, 1).all()


def test_n_effective_is_never_above_n(by_default: pd.DataFrame) -> None:
    both = by_default.dropna(subset=["n", "n_effective"])
    assert (both["n_effective"] <= both["n"]).all()
    narrow = by_default["note"].str.contains("narrower than that of n independent observations")
    assert by_default.loc[narrow, "n_effective"].isna().all()
