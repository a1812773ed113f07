"""Inference sections of the report: both views of every statement, and untrusted text stays text."""

import math
import re
from typing import Any

import pandas as pd
import pytest

from persona_assets.presentation import render_report, rules_markdown, statements_markdown
from persona_assets.presentation.report.inference_section import inference_section
from persona_assets.presentation.summaries.statements import label, number, p_text, predictor_name, side_by_side
from persona_assets.statistics import Rule, Statement, Verdict, tabulate
from tests.presentation.by_hand import HOSTILE, OTHER, PRIMARY, VISIBLE, WORDS, statements_by_hand, verdict_by_hand
from tests.presentation.pages import Element, read_page


@pytest.fixture
def statements() -> pd.DataFrame:
    return statements_by_hand()


@pytest.fixture
def verdict() -> Verdict:
    return verdict_by_hand()


@pytest.fixture
def page(few: Any, statements: pd.DataFrame, verdict: Verdict) -> str:
    inputs = few.report_inputs() | {"statements": statements, "verdict": verdict, "primary_cosine": PRIMARY}
    return render_report(**inputs, figures={})


def section_of(page: str, name: str = "statements") -> Element:
    return read_page(page).one("section", id=name)


def row_of(section: Element, name: str) -> list[str]:
    """Return the first table row with this heading."""
    return next(row for table in section.all("table") for row in table.rows() if row and row[0] == name)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.12345, "0.123"), (-0.7456, "−0.746"), (0.0, "0.000"), (12.0, "12.000"), (math.nan, "–")]
)
def test_a_number_has_three_decimals_and_a_unicode_minus(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.0123, "0.012"),
        (1.0, "1.000"),
        (0.001, "0.001"),
        (0.00099, "9.9e−4"),
        (5.24e-10, "5.2e−10"),
        (0.0, "0.000"),
        (math.nan, "–"),
    ],
)
def test_a_small_p_keeps_two_digits(p: float, shown: str) -> None:
    assert p_text(p) == shown


@pytest.mark.parametrize(
    ("column", "read"),
    [
        ("js", "JS"),
        ("js_source", "JS source"),
        (PRIMARY, "cosine study L20"),
        (OTHER, "cosine 111 personas L10"),
        ("cosine_layer10", "cosine L10"),
        ("leakage_found / leakage_total", "leakage counts"),
        ("source_rate", "source rate"),
        ("", ""),
    ],
)
def test_a_column_name_becomes_words(column: str, read: str) -> None:
    assert predictor_name(column) == read


@pytest.mark.parametrize(
    ("quantity", "outcome", "predictor", "given", "read"),
    [
        ("spearman", "leakage_rate", "js", "", "spearman: JS"),
        ("R²", "leakage_rate", f"js + {PRIMARY}", "", "R²: JS + cosine study L20"),
        ("difference", "leakage_rate", f"js − {OTHER}", "", "difference: JS − cosine 111 personas L10"),
        ("delta R²", "leakage_rate", "js", PRIMARY, "delta R²: JS, given cosine study L20"),
        ("pearson", "js", "cosine_layer10", "same category", "pearson: cosine L10 with JS, given same category"),
        ("everything", "", "", "", "everything"),
    ],
)
def test_a_statement_label_names_quantity_predictor_and_condition(
    quantity: str, outcome: str, predictor: str, given: str, read: str
) -> None:
    assert label({"quantity": quantity, "outcome": outcome, "predictor": predictor, "given": given}) == read


def test_both_views_of_a_statement_are_side_by_side(statements: pd.DataFrame) -> None:
    js, other = side_by_side(statements, "leakage")
    assert (js["label"], js["n"]) == ("spearman: JS", 50)
    assert (js["iid"]["low"], js["dyadic"]["low"]) == (-0.858, -0.874)
    assert [check["low"] for check in js["checks"]] == [-0.911]
    assert other["dyadic"]["note"].startswith("not computed: ")
    assert other["checks"] == []


def test_a_statement_with_one_view_lacks_the_other(statements: pd.DataFrame) -> None:
    (comparison,) = side_by_side(statements, "comparison")
    assert comparison["iid"] is None
    assert comparison["dyadic"]["estimate"] == 0.178
    (reliability,) = side_by_side(statements, "noise")
    assert (reliability["iid"], reliability["dyadic"]["estimate"], reliability["checks"]) == (None, 0.988, [])
    assert side_by_side(statements, "coupling") == []


def test_statements_of_other_cosines_are_collapsed(statements: pd.DataFrame, verdict: Verdict) -> None:
    section = inference_section(statements, verdict, PRIMARY)
    assert labels(section["more"]) == ["Leakage and each predictor", "spearman: cosine 111 personas L10"]
    assert section["more_count"] == 1
    shown = labels(section["shown"])
    assert shown[:2] == ["Leakage and each predictor", "spearman: JS"]
    assert len(shown) == 4 + 4
    turned = inference_section(statements, verdict, OTHER)
    assert turned["more_count"] == 2
    assert "spearman: cosine 111 personas L10" in labels(turned["shown"])


def labels(table: str) -> list[str]:
    """Return the headings of groups and statements, in the table's order."""
    body = read_page(table).one("tbody")
    return [heading.words for heading in body.all("th")]


def test_every_method_is_listed_once(statements: pd.DataFrame, verdict: Verdict) -> None:
    methods = inference_section(statements, verdict, PRIMARY)["methods"]
    assert len(methods) == len({tuple(way.values()) for way in methods}) > 3
    assert {way["reference"] for way in methods} == {"Nobody 1900"}


def test_the_verdict_comes_first_and_what_would_change_it_is_separate(page: str) -> None:
    tree = read_page(page)
    assert tree.all("section")[0]["id"] == "verdict"
    section = tree.one("section", id="verdict")
    assert section.one("p", class_="verdict").words == "JS leads (|ρ| +0.20)."
    changes = [(part.one("dt").words, part.one("dd").words) for part in section.one("dl").all("div")]
    assert [heading for heading, _ in changes] == ["More sources", "Another cosine", "One persona fewer"]
    more, another, one_less = (text for _, text in changes)
    assert more.startswith("It would take 40 sources.")
    assert section.one("table", class_="power").rows() == [["sources", "5", "40"], ["detected in", "10 %", "80 %"]]
    assert another == "The same predictor leads with every cosine that was tested."
    assert one_less == f"Without {VISIBLE} the difference is 0."
    how = section_of(page).all("details")[0]
    assert "|ρ| says so" in how.words
    assert WORDS.replace(HOSTILE, VISIBLE) in how.words


def test_the_main_statements_are_below_the_verdict(page: str) -> None:
    (head, columns, *rows) = read_page(page).one("section", id="verdict").all("table")[0].rows()
    assert (head, columns[:2]) == (["statement", "estimate", "n", "iid", "dyadic"], ["interval", "p"])
    assert [row[0] for row in rows] == ["spearman: JS", "difference of |spearman|: JS − cosine study L20"]


def test_both_intervals_and_the_adjusted_p_are_on_the_page(page: str) -> None:
    assert row_of(section_of(page), "spearman: JS") == [
        "spearman: JS",
        "−0.746",
        "50",
        "[−0.858, −0.565]",
        "5.2e−10",
        "[−0.874, −0.524]spearman [−0.911, −0.333]",
        "0.002",
        "0.012",
        "",
    ]


def test_a_statement_that_is_only_a_check_is_on_the_page(page: str) -> None:
    assert row_of(section_of(page), "reliability of JS: JS")[1] == "0.988"


def test_a_missing_value_is_a_dash_with_a_reason(page: str) -> None:
    section = section_of(page)
    only_dyadic = row_of(section, "difference of |spearman|: JS − cosine study L20")
    assert only_dyadic[1:5] == ["0.178", "50", "–", ""]
    assert "was never asked" in row_of(section, "spearman: cosine 111 personas L10")[5]
    power = row_of(section, "sources needed for power 0.8: JS")
    assert power[1:3] == ["–", ""]
    assert power[3].startswith("more than 160")
    assert not re.search(r"\b(nan|None|NA)\b", section.text)


def test_other_cosines_are_collapsed_on_the_page(page: str) -> None:
    section = section_of(page)
    (fold,) = [each for each in section.all("details") if each.words.startswith("The same for the other cosines")]
    assert fold.words.startswith("The same for the other cosines 1 statement ")
    assert row_of(fold, "spearman: cosine 111 personas L10")
    assert not [row for table in fold.all("table") for row in table.rows() if row[0] == "spearman: JS"]


def test_markup_in_a_statement_is_escaped(page: str) -> None:
    assert page.count("<script") == 1
    assert "\u202e" not in page
    # One reason, two rules and their words, one source on the floor, one omitted persona, one population.
    assert section_of(page).text.count(VISIBLE) == 7


def test_a_study_without_leakage_has_a_page(few: Any) -> None:
    nothing = Statement(family="leakage", quantity="everything", view="dyadic", unanswerable="nothing leaked")
    verdict = Verdict("It cannot be answered.", (Rule("answerable", "no", "nothing leaked"),))
    inputs = few.report_inputs() | {"statements": tabulate([nothing]), "verdict": verdict, "primary_cosine": ""}
    page = render_report(**inputs, figures={})
    assert "not computed: nothing leaked" in row_of(section_of(page), "everything")[5]
    assert len(section_of(page).all("table")) == 2
    verdict_section = section_of(page, "verdict")
    assert verdict_section.one("p", class_="verdict").words == "It cannot be answered."
    assert not verdict_section.all("table")


def cells(line: str) -> list[str]:
    """Split a row of a Markdown table into cells; an escaped bar is not a border."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_markdown_table_has_one_row_per_name(statements: pd.DataFrame) -> None:
    heading, rule, *rows = [cells(line) for line in statements_markdown(statements).splitlines()]
    assert heading == ["statement", "n", "iid", "dyadic"]
    assert rule == ["---"] * 4
    twice = statements[statements["family"].isin(["leakage", "comparison", "models", "noise"])]
    assert len(rows) == twice["name"].nunique() == 5
    assert {len(row) for row in rows} == {4}
    assert rows[0] == [
        "spearman: JS",
        "50",
        "−0.746 [−0.858, −0.565] p 5.2e−10",
        "−0.746 [−0.874, −0.524] p 0.002",
    ]
    assert rows[1][3].startswith("not computed: ")
    assert rows[2][:3] == ["difference of |spearman|: JS − cosine study L20", "50", ""]
    assert rows[4] == ["reliability of JS: JS", "50", "", "0.988"]


def test_a_bar_in_a_rule_is_escaped(verdict: Verdict) -> None:
    heading, _, *rows = [cells(line) for line in rules_markdown(verdict).splitlines()]
    assert heading == ["rule", "outcome", "because"]
    assert rows[0] == ["leads", "JS", "|ρ| says so"]
    assert rows[2] == ["rests on", HOSTILE, f"Without {HOSTILE} the difference is 0."]
