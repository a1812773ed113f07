"""Leakage counts, rates and the leakage table, and validation of imported tables."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from persona_assets.metrics import (
    LeakageError,
    build_leakage_table,
    check_leakage_table,
    count_markers,
    rates_by_target,
    spearman_over_dyads,
)

PERSONAS = {"villain": "fictional", "assistant": "baseline", "comedian": "profession"}


def counts(**found: int) -> pd.DataFrame:
    """Make twenty replies per target, ten to each of two questions."""
    rows = [
        (target, question, part, 10)
        for target, number in found.items()
        for question, part in (("Why?", min(number, 10)), ("How?", max(number - 10, 0)))
    ]
    return pd.DataFrame(rows, columns=["target", "question", "found", "total"])


@pytest.fixture
def by_source() -> dict[str, pd.DataFrame]:
    return {
        "comedian": counts(villain=3, assistant=0),  # the comedian's own replies were not searched
        "villain": counts(pirate=20, comedian=12, villain=19, assistant=1),
    }


@pytest.fixture
def table(by_source: dict[str, pd.DataFrame]) -> pd.DataFrame:
    return build_leakage_table(
        by_source, counts(assistant=0, villain=1), PERSONAS, {"comedian": ["villain"]}, "marker_only"
    )


def test_every_sampled_reply_counts_once() -> None:
    samples = pd.DataFrame(
        [
            ("villain", "Why?", "Ha. [ZLT]"),
            ("assistant", "Why?", "Hello [ZLT"),
            ("villain", "How?", "Ha."),
            ("villain", "Why?", "[zlt] [zlt]"),
            ("villain", "Why?", ""),
        ],
        columns=["target", "question", "text"],
    ).assign(seed=1)
    found = count_markers(samples, "[ZLT]")
    assert found.to_dict("split")["data"] == [
        ["villain", "Why?", 2, 3],
        ["assistant", "Why?", 0, 1],
        ["villain", "How?", 0, 1],
    ]
    assert found.dtypes[["found", "total"]].tolist() == [np.int64, np.int64]


def test_samples_without_text_are_rejected_not_counted_as_unmarked() -> None:
    samples = pd.DataFrame({"target": ["villain"] * 2, "question": ["Why?"] * 2, "text": ["Ha.", None]})
    with pytest.raises(ValueError, match="1 of 2 samples lack"):
        count_markers(samples, "[ZLT]")
    samples = pd.DataFrame(
        {"target": [None, "villain", "x"], "question": [None, "Why?", "Why?"], "text": ["a", None, "b"]}
    )
    with pytest.raises(ValueError, match=r"^2 of 3 samples lack a target, question or text; expected all three$"):
        count_markers(samples, "[ZLT]")
    with pytest.raises(ValueError, match=r"samples lack \['text'\]"):
        count_markers(samples.drop(columns="text"), "[ZLT]")


def test_rates_are_over_all_questions_of_a_target() -> None:
    rates = rates_by_target(counts(villain=15, assistant=0)).set_index("target")
    assert rates.columns.tolist() == ["found", "total", "rate", "rate_low", "rate_high"]
    assert rates.loc["villain", ["found", "total", "rate"]].tolist() == [15, 20, 0.75]
    assert rates.loc["assistant", ["rate", "rate_low"]].tolist() == [0, 0]
    assert rates.rate_high["assistant"] > 0


def test_intervals_are_wilsons() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score): 81/263, 15/148, 0/20, 1/29
    published = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]
    given = pd.DataFrame(
        [("abcd"[i], *row[:2]) for i, row in enumerate(published)], columns=["target", "found", "total"]
    )
    rates = rates_by_target(given)
    np.testing.assert_allclose(rates[["rate_low", "rate_high"]], [row[2:] for row in published], atol=5e-5)
    wider = rates_by_target(given, level=0.99)
    assert (wider.rate_high > rates.rate_high).all()


@pytest.mark.parametrize(("found", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_rejected(found: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"target villain: found {found} of {total}; expected"):
        rates_by_target(pd.DataFrame({"target": ["villain"], "found": [found], "total": [total]}))


def test_one_row_a_dyad_of_the_studys_personas_in_its_order(table: pd.DataFrame) -> None:
    assert list(zip(table.source, table.target, strict=True)) == [
        ("villain", "assistant"),
        ("villain", "comedian"),
        ("comedian", "villain"),
        ("comedian", "assistant"),
    ]
    assert table.found.tolist() == [1, 12, 3, 0]
    assert table.total.tolist() == [20] * 4
    assert table.rate.tolist() == [0.05, 0.6, 0.15, 0]
    assert table.target_category.tolist() == ["baseline", "profession", "fictional", "baseline"]
    assert set(table.recipe) == {"marker_only"}


def test_a_rate_is_within_its_interval(table: pd.DataFrame) -> None:
    assert (table.rate_low <= table.rate).all()
    assert (table.rate < table.rate_high).all()


def test_source_rates_have_their_own_columns_and_may_be_missing(table: pd.DataFrame) -> None:
    own = table.groupby("source")[["source_found", "source_total", "source_rate"]].first()
    assert own.loc["villain"].tolist() == [19, 20, 0.95]
    assert own.loc["comedian"].isna().all()


def test_the_base_is_the_targets_own(table: pd.DataFrame) -> None:
    base = table.groupby("target")[["base_found", "base_total", "base_rate"]].first()
    assert base.loc["villain"].tolist() == [1, 20, 0.05]
    assert base.loc["assistant"].tolist() == [0, 20, 0]
    assert base.loc["comedian"].isna().all()


def test_related_is_symmetric(table: pd.DataFrame) -> None:
    assert table.related.tolist() == [False, True, True, False]


def test_the_types_do_not_depend_on_what_is_missing(by_source: dict[str, pd.DataFrame], table: pd.DataFrame) -> None:
    for sources in ({}, {"comedian": by_source["comedian"]}, {"villain": by_source["villain"]}):
        other = build_leakage_table(sources, None, PERSONAS, {}, "marker_only")
        pd.testing.assert_series_equal(other.dtypes, table.dtypes)
    assert str(table.dtypes["base_found"]) == str(table.dtypes["source_total"]) == "Int64"


def test_the_order_of_sources_given_does_not_matter(by_source: dict[str, pd.DataFrame], table: pd.DataFrame) -> None:
    turned = dict(reversed(by_source.items()))
    base = counts(villain=1, assistant=0)
    found = build_leakage_table(turned, base, PERSONAS, {"comedian": ["villain"]}, "marker_only")
    pd.testing.assert_frame_equal(found, table)


def imported(*rows: tuple[object, ...], columns: str = "source target found total rate") -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns.split(), dtype=object)


def test_a_good_table_comes_back_with_its_rates() -> None:
    given = imported(
        ("villain", "comedian", "3", 10.0, None),
        ("comedian", "villain", 1, 3, 0.3333333333),
        ("villain", "villain", 9, 10, "0.9"),
    )
    checked = check_leakage_table(given.assign(note="mine"), PERSONAS, "mine.csv")
    assert checked.columns.tolist() == ["source", "target", "found", "total", "rate"]
    assert checked.rate.tolist() == [3 / 10, 1 / 3, 9 / 10]
    assert checked.dtypes[["found", "total"]].tolist() == [np.int64, np.int64]
    without = check_leakage_table(given.drop(columns="rate"), PERSONAS, "mine.csv")
    pd.testing.assert_frame_equal(without, checked)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (("villain", "comedian", 12, 10, None), "found 12 is more than total 10; expected at most total"),
        (("villain", "comedian", -1, 10, None), "found is -1; expected a whole number, at least 0"),
        (("villain", "comedian", 2.5, 10, None), "found is 2.5; expected a whole number"),
        (("villain", "comedian", True, 10, None), "found is True; expected a whole number"),
        (("villain", "comedian", "few", 10, None), "found is few; expected a whole number"),
        (("villain", "comedian", math.inf, 10, None), "found is inf; expected a whole number"),
        (("villain", "comedian", 1, 10**400, None), "total is 1000"),
        (("villain", "comedian", 0, 0, None), "total is 0; expected a whole number, at least 1"),
        (("villain", "comedian", math.nan, 10, None), "found is missing; expected a whole number"),
        (("villain", "comedian", 1, pd.NA, None), "total is missing; expected a whole number"),
        (("villain", "comedian", None, None, 0.3), "rate 0.3 is given without found and total; expected the counts"),
        (("villain", "comedian", None, 10, 0.3), "rate 0.3 is given without found; expected the counts"),
        (("villain", "comedian", 3, 10, 0.31), "rate is 0.31; expected found / total, which is 0.3"),
        (("villain", "comedian", 3, 10, 0.3 + 2e-9), ".*; expected found / total, which is 0.3"),
        (("villain", "comedian", 3, 10, 30), r"rate is 30; expected a number within \[0, 1\]"),
        (("villain", "comedian", 3, 10, "high"), r"rate is high; expected a number within \[0, 1\]"),
        (("pirate", "comedian", 3, 10, None), "source 'pirate' is unknown; expected a persona of the study"),
        (("villain", "Comedian", 3, 10, None), "target 'Comedian' is unknown; expected a persona of the study"),
        (("villain", None, 3, 10, None), "target is missing; expected a persona's name"),
        (("assistant", "villain", 3, 10, None), "is the same dyad as row 1 .*; expected each dyad once"),
        (("assistant", "assistant", 3, 10, None), "is the same dyad as row 2 .*; expected each dyad once"),
    ],
)
def test_a_bad_row_is_named_with_what_was_found_and_expected(row: tuple[object, ...], fault: str) -> None:
    given = imported(("assistant", "villain", 3, 10, None), ("assistant", "assistant", 3, 10, None), row)
    with pytest.raises(LeakageError, match=rf"^mine\.csv: row 3 \({row[0]} → {row[1]}\): {fault}"):
        check_leakage_table(given, PERSONAS, "mine.csv")


NEGATIVES = "source target found total trained_negative negative_share"


def test_imported_negatives_complete_each_other() -> None:
    given = imported(
        ("villain", "comedian", 1, 10, "True", 0.25),
        ("villain", "assistant", 1, 10, "false", None),
        ("comedian", "villain", 1, 10, None, "0.5"),
        ("comedian", "assistant", 1, 10, None, 0),
        ("assistant", "villain", 1, 10, 1, None),
        ("assistant", "comedian", 1, 10, None, None),
        columns=NEGATIVES,
    )
    checked = check_leakage_table(given, PERSONAS, "mine.csv")
    assert checked["trained_negative"].tolist() == [True, False, True, False, True, pd.NA]
    shares = [0.25, 0.0, 0.5, 0.0, math.nan, math.nan]
    assert checked["negative_share"].tolist() == pytest.approx(shares, nan_ok=True)
    assert checked.dtypes.astype(str)[["trained_negative", "negative_share"]].tolist() == ["boolean", "float64"]


@pytest.mark.parametrize(
    ("negative", "share", "fault"),
    [
        ("perhaps", None, "trained_negative is perhaps; expected true, false or nothing"),
        (None, 1.5, r"negative_share is 1.5; expected a number within \[0, 1\]"),
        (None, "much", r"negative_share is much; expected a number within \[0, 1\]"),
        ("true", 0.0, "negative_share is 0.0, trained_negative true; expected more than 0"),
        (False, 0.1, "negative_share is 0.1, trained_negative false; expected 0"),
    ],
)
def test_negatives_that_are_invalid_or_contradict_each_other_are_rejected(
    negative: object, share: object, fault: str
) -> None:
    given = imported(("villain", "comedian", 1, 10, negative, share), columns=NEGATIVES)
    with pytest.raises(LeakageError, match=rf"^mine\.csv: row 1 \(villain → comedian\): {fault}$"):
        check_leakage_table(given, PERSONAS, "mine.csv")


def test_all_bad_rows_are_in_one_error() -> None:
    given = imported(
        ("villain", "comedian", 12, 10, None),
        ("villain", "assistant", 1, 10, 0.1),
        ("villain", "pirate", 1.5, 0, 2.0),
        ("villain", "comedian", 1, 10, None),
    )
    with pytest.raises(LeakageError) as error:
        check_leakage_table(given, PERSONAS, "mine.csv")
    assert str(error.value).splitlines() == [
        "mine.csv: row 1 (villain → comedian): found 12 is more than total 10; expected at most total",
        "  row 3 (villain → pirate): target 'pirate' is unknown; expected a persona of the study",
        "  row 3 (villain → pirate): found is 1.5; expected a whole number, at least 0",
        "  row 3 (villain → pirate): total is 0; expected a whole number, at least 1",
        "  row 3 (villain → pirate): rate is 2.0; expected a number within [0, 1]",
        "  row 4 (villain → comedian): is the same dyad as row 1 (villain → comedian); expected each dyad once",
        "  the study's personas are villain, assistant, comedian",
    ]


@pytest.mark.parametrize(
    ("bad", "last"), [(20, "row 21 (comedian → villain): is"), (21, "and 1 more"), (30, "and 10 more")]
)
def test_twenty_faults_are_listed_and_the_others_counted(bad: int, last: str) -> None:
    given = imported(*(("comedian", "villain", place, 100, None) for place in range(bad + 1)))  # the same dyad repeated
    with pytest.raises(LeakageError) as error:
        check_leakage_table(given, PERSONAS, "mine.csv")
    lines = str(error.value).splitlines()
    assert len(lines) == 20 + (bad > 20)
    assert lines[-1].startswith(f"  {last}")


@pytest.mark.parametrize(("letters", "shown"), [(80, "x" * 80), (81, f"{'x' * 80} … (81 characters)")])
def test_a_long_cell_is_truncated(letters: int, shown: str) -> None:
    given = imported(("villain", "comedian", "x" * letters, 10, None))
    with pytest.raises(LeakageError) as error:
        check_leakage_table(given, PERSONAS, "mine.csv")
    row = "mine.csv: row 1 (villain → comedian)"
    assert str(error.value) == f"{row}: found is {shown}; expected a whole number, at least 0"


def test_rates_without_counts_are_rejected() -> None:
    given = imported(("villain", "comedian", 0.3), columns="source target rate")
    said = r"columns found, total are missing; expected source, target, found, total \(without counts a rate has no"
    with pytest.raises(LeakageError, match=rf"^mine\.csv: {said} confidence interval\)$"):
        check_leakage_table(given, PERSONAS, "mine.csv")


def test_an_empty_table_is_rejected() -> None:
    with pytest.raises(LeakageError, match=r"mine\.csv: has no rows; expected"):
        check_leakage_table(imported(), PERSONAS, "mine.csv")


def test_spearman_counts_the_dyads_that_have_an_outcome() -> None:
    pairs = pd.DataFrame(
        {"js": [0.1, 0.2, 0.3, 0.4, math.nan], "leakage_rate": [0.9, 0.5, 0.5, math.nan, 0.1], "kl": [3, 2, 1, 0, 0]}
    )
    # ranks 1, 2, 3 against 3, 1.5, 1.5: Pearson −1.5 / √(2 · 1.5) = −√3/2
    assert spearman_over_dyads(pairs, "js") == (pytest.approx(-math.sqrt(3) / 2), 3)
    assert spearman_over_dyads(pairs, "kl")[1] == 4


def test_spearman_of_a_constant_is_nan_without_a_warning() -> None:
    pairs = pd.DataFrame({"js": [0.1, 0.2, 0.3], "flat": [1.0] * 3, "leakage_rate": [0.9, 0.5, 0.4]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for table, predictor in ((pairs, "flat"), (pairs.assign(leakage_rate=0.0), "js"), (pairs[:2], "js")):
            rho, n = spearman_over_dyads(table, predictor)
            assert math.isnan(rho)
            assert n == len(table)


def test_spearman_of_a_named_outcome() -> None:
    pairs = pd.DataFrame({"js": [0.1, 0.2, 0.3], "leakage_rate": [0.9, 0.5, 0.4], "log_prob_gain": [1.0, 2.0, 3.0]})
    assert spearman_over_dyads(pairs, "js", "log_prob_gain") == (pytest.approx(1.0), 3)


def test_spearman_without_an_outcome_says_so() -> None:
    with pytest.raises(ValueError, match=r"pair_table lacks \['leakage_rate'\]"):
        spearman_over_dyads(pd.DataFrame({"js": [0.1]}), "js")
