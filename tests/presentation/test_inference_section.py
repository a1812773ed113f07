"""What a reader is shown of inference: every statement twice, and nothing in it can act."""

import math
import re
from typing import Any

import pandas as pd
import pytest

from persona_assets.presentation import render_report, rules_markdown, statements_markdown
from persona_assets.presentation.inference_section import inference_section
from persona_assets.presentation.statements import label, number, p_text, predictor_name, side_by_side
from persona_assets.statistics import Rule, Statement, Verdict, tabulate
from persona_assets.statistics.statement import Interval, PValue

PRIMARY, OTHER = "cosine_study_layer20", "cosine_111_personas_layer10"
HOSTILE = '<script>alert("\u202e")</script>'
WORDS = "JS leads; nobody knows why (|ρ| +0.20)."


def statement(family: str, quantity: str, view: Any, predictor: str, estimate: float, **more: Any) -> Statement:
    said = {"method": f"{quantity}, {view}", "structure": "by hand", "reference": "Nobody 1900"}
    low, high, p = more.pop("low", math.nan), more.pop("high", math.nan), more.pop("p", math.nan)
    return Statement(
        family=family,
        quantity=quantity,
        view=view,
        outcome=more.pop("outcome", "leakage_rate"),
        predictor=predictor,
        estimate=estimate,
        interval=None if math.isnan(low) else Interval(low=low, high=high, level=0.95, **said),
        p=None if math.isnan(p) else PValue(p=p, smallest=0.0, **said),
        n=more.pop("n", 50),
        **more,
    )


def count(quantity: str, estimate: float, note: str = "") -> Statement:
    return Statement(family="design", quantity=quantity, view="check", estimate=estimate, note=note)


@pytest.fixture
def statements() -> pd.DataFrame:
    why = f"{HOSTILE} was never asked"
    return tabulate(
        [
            count("sources", 5, "a, b, c, d, e"),
            count("sources on the floor", 1, f"{HOSTILE}: no target leaks more than 2%"),
            statement("leakage", "spearman", "iid", "js", -0.7456, low=-0.858, high=-0.565, p=5.2e-10),
            statement(
                "leakage", "spearman", "dyadic", "js", -0.7456, low=-0.874, high=-0.524, p=0.002, p_adjusted=0.012
            ),
            statement("leakage", "spearman", "check", "js", -0.7456, low=-0.911, high=-0.333),
            statement("leakage", "spearman", "iid", OTHER, 0.574, low=0.332, high=0.745, p=1.3e-5),
            Statement(
                family="leakage",
                quantity="spearman",
                view="dyadic",
                outcome="leakage_rate",
                predictor=OTHER,
                n=50,
                unanswerable=why,
            ),
            statement("comparison", "difference of |spearman|", "dyadic", f"js − {PRIMARY}", 0.178, low=-0.1, high=0.3),
            statement("models", "R²", "iid", f"js + {PRIMARY}", 0.5214, low=0.4, high=0.6),
            statement("noise", "reliability of JS", "check", "js", 0.988, note="over questions"),
            statement("influence", f"spearman without persona {HOSTILE}", "check", "js", -0.5, n=40),
            statement("looks", "pearson, all dyads", "check", f"cosine_{HOSTILE}_layer3", 0.25),
            statement("power", "sources needed for power 0.8", "check", "js", math.nan, n=None, note="more than 160"),
        ]
    )


@pytest.fixture
def verdict() -> Verdict:
    return Verdict(WORDS, (Rule("leads", "JS", "|ρ| says so"), Rule("rests on", HOSTILE, "")))


@pytest.fixture
def page(few: Any, statements: pd.DataFrame, verdict: Verdict) -> str:
    inputs = few.report_inputs() | {"statements": statements, "verdict": verdict, "primary_cosine": PRIMARY}
    return render_report(**inputs, figures={})


def section_of(page: str) -> str:
    return " ".join(page[page.index("<h2>What can be said of it</h2>") : page.index("<h2>Every pair</h2>")].split())


def row_of(section: str, name: str) -> str:
    """The row of a table whose heading is this name."""
    found = re.search(rf"<tr><th[^>]*><bdi>{re.escape(name)}</bdi></th>.*?</tr>", section)
    assert found is not None, name
    return found[0]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.12345, "0.123"), (-0.7456, "−0.746"), (0.0, "0.000"), (12.0, "12.000"), (math.nan, "–")]
)
def test_a_number_has_three_decimals_and_a_true_minus(value: float, shown: str) -> None:
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
def test_a_column_is_read_as_words(column: str, read: str) -> None:
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
def test_a_statement_is_called_by_what_it_is_of(
    quantity: str, outcome: str, predictor: str, given: str, read: str
) -> None:
    assert label({"quantity": quantity, "outcome": outcome, "predictor": predictor, "given": given}) == read


def test_both_views_of_a_statement_stand_side_by_side(statements: pd.DataFrame) -> None:
    js, other = side_by_side(statements, "leakage")
    assert (js["label"], js["n"]) == ("spearman: JS", 50)
    assert (js["iid"]["low"], js["dyadic"]["low"]) == (-0.858, -0.874)
    assert [check["low"] for check in js["checks"]] == [-0.911]
    assert other["dyadic"]["note"].startswith("cannot be answered, because ")
    assert other["checks"] == []


def test_what_was_asked_one_way_lacks_the_other(statements: pd.DataFrame) -> None:
    (comparison,) = side_by_side(statements, "comparison")
    assert comparison["iid"] is None
    assert comparison["dyadic"]["estimate"] == 0.178
    (reliability,) = side_by_side(statements, "noise")
    assert (reliability["iid"], reliability["dyadic"]["estimate"], reliability["checks"]) == (None, 0.988, [])
    assert side_by_side(statements, "coupling") == []


def test_statements_of_other_cosines_are_folded_away(statements: pd.DataFrame, verdict: Verdict) -> None:
    section = inference_section(statements, verdict, PRIMARY)
    leakage, comparison, models = section["twice"][:3]
    assert [row["label"] for row in leakage["shown"]] == ["spearman: JS"]
    assert [row["label"] for row in leakage["more"]] == ["spearman: cosine 111 personas L10"]
    assert (len(comparison["shown"]), comparison["more"]) == (1, [])
    assert (len(models["shown"]), models["more"]) == (1, [])
    turned = inference_section(statements, verdict, OTHER)["twice"][:3]
    assert [len(family["more"]) for family in turned] == [0, 1, 1]


def test_every_way_of_making_a_number_stands_once(statements: pd.DataFrame, verdict: Verdict) -> None:
    methods = inference_section(statements, verdict, PRIMARY)["methods"]
    assert len(methods) == len({tuple(way.values()) for way in methods}) > 3
    assert {way["reference"] for way in methods} == {"Nobody 1900"}


def test_the_verdict_is_said_at_the_head_and_in_its_section(page: str) -> None:
    said = f'<p class="verdict"><bdi>{WORDS}</bdi></p>'
    assert page.count(said) == 2
    assert page.index(said) < page.index("<h2>Figures</h2>") < page.index("<h2>What can be said of it</h2>")
    assert section_of(page).count(said) == 1
    assert "|ρ| says so" in section_of(page)


def test_both_intervals_and_what_all_looks_cost_are_on_the_page(page: str) -> None:
    row = row_of(section_of(page), "spearman: JS")
    assert "<td>50</td><td>−0.746</td>" in row
    assert row.index("[−0.858, −0.565]") < row.index("<td>5.2e−10</td>") < row.index("[−0.874, −0.524]")
    assert row.index("<td>0.002</td>") < row.index("<td>0.012</td>")
    assert "[−0.911, −0.333]" in section_of(page)


def test_a_number_that_stands_only_as_a_check_is_on_the_page(page: str) -> None:
    assert "<td>0.988</td>" in row_of(section_of(page), "reliability of JS: JS")


def test_what_is_missing_is_a_dash_and_a_reason(page: str) -> None:
    section = section_of(page)
    only_dyadic = row_of(section, "difference of |spearman|: JS − cosine study L20")
    assert "<td>0.178</td> <td>–</td><td></td>" in only_dyadic
    assert "was never asked" in row_of(section, "spearman: cosine 111 personas L10")
    power = row_of(section, "sources needed for power 0.8: JS")
    assert "<td></td> <td>–</td>" in power
    assert "more than 160" in power
    assert not re.search(r"\b(nan|None|NA)\b|&lt;NA&gt;", section)


def test_other_cosines_are_folded_on_the_page(page: str) -> None:
    section = section_of(page)
    fold = section.index("<details><summary>the same for the other cosines")
    assert section.index("spearman: JS") < fold < section.index("spearman: cosine 111 personas L10")
    assert section.count("the same for the other cosines") == 1
    assert 'cosines <span class="note">1 statements</span>' in section


def test_markup_in_a_statement_is_shown_and_not_obeyed(page: str) -> None:
    assert "<script" not in page
    assert "\u202e" not in page
    # a reason, a rule, a source on the floor, a persona left out, a population
    assert section_of(page).count("&lt;script&gt;alert(&#34;") == 5


def test_a_study_without_leakage_still_makes_a_page(few: Any) -> None:
    nothing = Statement(family="leakage", quantity="everything", view="dyadic", unanswerable="nothing leaked")
    verdict = Verdict("It cannot be answered.", (Rule("answerable", "no", "nothing leaked"),))
    inputs = few.report_inputs() | {"statements": tabulate([nothing]), "verdict": verdict, "primary_cosine": ""}
    section = section_of(render_report(**inputs, figures={}))
    assert "cannot be answered, because nothing leaked" in row_of(section, "everything")
    assert section.count("<table") == 2


def cells(line: str) -> list[str]:
    """Cells of a row of a Markdown table; an escaped bar is no border."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_markdown_table_has_a_row_a_name(statements: pd.DataFrame) -> None:
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
    assert rows[1][3].startswith("cannot be answered, because ")
    assert rows[2][:3] == ["difference of |spearman|: JS − cosine study L20", "50", ""]
    assert rows[4] == ["reliability of JS: JS", "50", "", "0.988"]


def test_a_bar_in_a_rule_is_no_border(verdict: Verdict) -> None:
    heading, _, *rows = [cells(line) for line in rules_markdown(verdict).splitlines()]
    assert heading == ["rule", "outcome", "because"]
    assert rows == [["leads", "JS", "|ρ| says so"], ["rests on", HOSTILE, ""]]
