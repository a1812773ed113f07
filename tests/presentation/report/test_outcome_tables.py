"""The report with several outcomes: all side by side, with the verdict's one named, and trained negatives marked."""

import re

import numpy as np
import pandas as pd
import pytest

from persona_assets.presentation import render_markdown, render_report
from persona_assets.presentation.report.inference_section import inference_section
from persona_assets.presentation.report.leakage_section import leakage_section
from persona_assets.presentation.summaries.outcome_rows import outcome_rows
from persona_assets.presentation.summaries.statements import FAMILIES, label, verdict_outcome
from persona_assets.statistics import Rule, Verdict, tabulate
from tests.presentation.by_hand import statement, verdict_by_hand
from tests.presentation.conftest import LAYERS, SOURCES, Synthetic
from tests.presentation.made_statements import PRIMARY, made_reliability, made_statements
from tests.presentation.pages import Element, assert_harmless, read_page

DIFFERENCE = "difference of |spearman|"


@pytest.fixture(scope="module")
def statements(eleven: Synthetic) -> pd.DataFrame:
    made = made_statements(eleven.names, LAYERS, SOURCES)
    made["outcome"] = made["outcome"].mask(made["family"] == "leakage", "expected_rate")
    difference = statement(
        *("comparison", DIFFERENCE, "dyadic", f"js − {PRIMARY}", 0.1), outcome="expected_rate", low=-0.1, high=0.3
    )
    return pd.concat([made, tabulate([difference, *made_reliability()])], ignore_index=True)


@pytest.fixture(scope="module")
def html(eleven: Synthetic, statements: pd.DataFrame) -> str:
    tables = {"pair_table": eleven.full_pair_table, "leakage_table": eleven.full_leakage_table}
    inputs = eleven.leaky_report_inputs() | tables | {"statements": statements, "verdict": verdict_by_hand()}
    return render_report(**inputs, primary_cosine=PRIMARY, figures={}, marker="[ZLT]")


@pytest.fixture(scope="module")
def page(html: str) -> Element:
    return read_page(html)


def test_the_page_stays_harmless_and_says_how_leakage_was_measured(page: Element) -> None:
    assert_harmless(page)
    said = page.one("section", id="leakage").words
    assert "3 training seeds" in said
    assert "The expected rate is its probability, averaged over replies and questions" in said
    assert "The verdict is about the expected rate." in said
    assert "at most 2×10⁻⁷ expected before training" in said
    assert "In 10 of 50 dyads the target was a trained negative" in said


def test_every_outcome_of_every_dyad_is_in_one_row(page: Element, eleven: Synthetic) -> None:
    rows = {row[0]: row for row in page.one("table", data_rows="dyads").rows() if " → " in row[0]}
    for dyad in eleven.full_leakage_table.to_dict("records"):
        row = rows[f"{dyad['source']} → {dyad['target']}".replace("_", " ")]
        assert row[1] == ("25 %" if dyad["trained_negative"] else "–")
        assert row[2] == f"{dyad['expected_rate']:.2f}"
        assert row[3] == f"[{dyad['expected_rate_low']:.2f}, {dyad['expected_rate_high']:.2f}]"
        assert row[4:6] == [f"{dyad['found']}/20", f"{dyad['rate']:.2f}"]
        assert row[7:9] == [
            f"{dyad['log_prob_gain']:.1f}",
            f"[{dyad['log_prob_gain_low']:.1f}, {dyad['log_prob_gain_high']:.1f}]",
        ]


def test_the_outcomes_are_side_by_side_with_the_verdicts_first(page: Element, statements: pd.DataFrame) -> None:
    rows = page.one("table", data_rows="outcomes").rows()[2:]
    assert rows == [
        ["expected rate (verdict)", "−0.720 [−0.940, −0.500]", "0.500 [0.280, 0.720]", "0.100 [−0.100, 0.300]", "0.940",
         "0.810"],
        ["sampled rate", "−0.490 [−0.710, −0.270]", "0.620 [0.400, 0.840]", "−0.130 [−0.350, 0.090]", "0.710", "0.620"],
        ["gain in log-probability", "−0.730 [−0.950, −0.510]", "0.520 [0.300, 0.740]", "0.210 [−0.010, 0.430]", "0.970",
         "0.900"],
    ]  # fmt: skip
    assert verdict_outcome(statements) == "expected_rate"


def test_the_summary_lists_every_outcome(eleven: Synthetic, statements: pd.DataFrame) -> None:
    inputs = eleven.report_inputs()
    del inputs["pair_table"]
    text = render_markdown(**inputs, statements=statements, verdict=verdict_by_hand(), primary_cosine=PRIMARY)
    assert r"| gain in log-probability | −0.730 | 0.520 | 0.210 | 0.970 |" in text
    assert r"| expected rate (verdict) |" in text


def test_one_outcome_has_no_table_of_outcomes(eleven: Synthetic) -> None:
    made = made_statements(eleven.names, LAYERS, SOURCES)
    assert [row["outcome"] for row in outcome_rows(made, PRIMARY)] == ["sampled rate"]
    inputs = eleven.leaky_report_inputs() | {"statements": made, "verdict": verdict_by_hand()}
    html = render_report(**inputs, primary_cosine=PRIMARY, figures={})
    assert "By every outcome" not in html
    assert "It is not known which targets were trained negatives" in html
    assert "trained negative</th>" not in html


def test_reliability_and_components_are_listed_apart_with_their_notes(statements: pd.DataFrame) -> None:
    section = inference_section(statements, verdict_by_hand(), PRIMARY)
    (table,) = (each for each in section["once"] if each["heading"] == FAMILIES["reliability"])
    assert table["count"] == 3 * 5 + 8
    assert "reliability, halves of questions (expected rate)" in table["table"]
    assert "variance component: source (gain in log-probability)" in table["table"]
    assert "not computed: it has the same levels as source × target" in table["table"]
    assert re.search(
        r"corrected for attenuation: JS with sampled rate.*?−0.854 \[−0.950, −0.400\]", table["table"], re.S
    )
    assert "reliability," not in section["shown"]


def test_an_effective_number_above_n_is_not_shown() -> None:
    rows = [
        statement("leakage", "spearman", "dyadic", predictor, -0.5, n=50, n_effective=size, outcome="expected_rate")
        for predictor, size in (("js", 76.0), (PRIMARY, 31.0))
    ]
    section = inference_section(tabulate(rows), verdict_by_hand(), PRIMARY)
    assert ">31<" in section["shown"]
    assert "76" not in section["shown"]


@pytest.mark.parametrize(
    ("family", "quantity", "predictor", "outcome", "read"),
    [
        ("leakage", "spearman", "js", "expected_rate", "spearman: JS"),
        ("outcomes", "spearman", "js", "log_prob_gain", "spearman: JS with gain in log-probability"),
        ("outcomes", "spearman", "js", "leakage_rate", "spearman: JS with sampled rate"),
        ("noise", "reliability, training seeds", "", "expected_rate", "reliability, training seeds (expected rate)"),
        ("noise", "reliability of leakage", "js", "leakage_rate", "reliability of leakage: JS"),
    ],
)
def test_labels_name_the_outcome_only_where_it_is_not_the_verdicts(
    family: str, quantity: str, predictor: str, outcome: str, read: str
) -> None:
    row = {"family": family, "quantity": quantity, "predictor": predictor, "outcome": outcome, "given": ""}
    assert label(row) == read


def test_what_would_change_includes_outcomes_kinds_and_negatives(statements: pd.DataFrame) -> None:
    rules = (
        Rule("other outcomes", "agree", ""),
        Rule("within kinds", "no", "The kinds could explain the association."),
        Rule("negatives", "unknown", ""),
    )
    words = "JS predicts leakage. The kinds could explain the association."
    section = inference_section(statements, Verdict(words, rules), PRIMARY)
    assert section["verdict"] == "JS predicts leakage."
    assert [(change["heading"], change["text"][:30]) for change in section["changes"]] == [
        ("Another outcome", "By every other outcome the ver"),
        ("Kinds of personas", "The kinds could explain the as"),
        ("Trained negatives", "It is not known which targets "),
    ]


def test_without_sampled_replies_only_log_probabilities_are_shown(eleven: Synthetic) -> None:
    counts = ["leakage_found", "leakage_total", "leakage_rate", "leakage_low", "leakage_high", "source_rate"]
    pairs = eleven.full_pair_table.assign(**dict.fromkeys(counts, np.nan))
    names = [name for name in eleven.full_leakage_table if "found" in name or "total" in name or name == "rate"]
    table = eleven.full_leakage_table.assign(**dict.fromkeys(names, np.nan))
    section = leakage_section(pairs, table, None)
    assert [outcome.column for outcome in section["outcomes"]] == ["expected_rate", "log_prob_gain"]
    assert (section["sampled"], section["everywhere"], section["base"]) == (None, None, None)
    inputs = eleven.report_inputs() | {"pair_table": pairs, "leakage_table": table}
    words = read_page(render_report(**inputs, figures={})).one("section", id="leakage").words
    assert "No replies were sampled: leakage was measured by log-probability alone." in words
    assert "found / total" not in words
