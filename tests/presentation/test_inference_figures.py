"""Figures of the statements: every specification is on them once, with the sign that a reader expects."""

import numpy as np
import pandas as pd
import pytest

from persona_assets.presentation.influence import influence_figure, left_out
from persona_assets.presentation.specification import specification_curve, specifications_of
from persona_assets.statistics import Statement, tabulate
from tests.presentation.test_figures import overflowing

COSINE = "cosine_study_layer20"


def look(predictor: str, coefficient: str, dyads: str, estimate: float, note: str = "") -> Statement:
    quantity = f"{coefficient}, {dyads}"
    return Statement(
        family="looks", quantity=quantity, view="check", predictor=predictor, estimate=estimate, n=50, note=note
    )


def without(who: str, predictor: str, estimate: float) -> Statement:
    return Statement(
        family="influence",
        quantity=f"spearman without {who}",
        view="check",
        predictor=predictor,
        estimate=estimate,
        n=40,
    )


@pytest.fixture
def statements() -> pd.DataFrame:
    return tabulate(
        [
            look("js", "spearman", "all dyads", -0.75, "the choice that the verdict is about"),
            look("js", "kendall", "all dyads", -0.55),
            look("js_pair", "pearson", "without the baseline as target", 0.10),
            look(COSINE, "spearman", "all dyads", 0.57, "the choice that the verdict is about"),
            look(COSINE, "spearman", "sources off the floor", float("nan")),
            without("source villain", "js", -0.80),
            without("source villain", COSINE, 0.62),
            without("persona french_person", "js", -0.74),
            without("persona french_person", COSINE, 0.64),
            Statement(
                family="influence",
                quantity="difference of |spearman| without source villain",
                view="check",
                predictor=f"js − {COSINE}",
                estimate=0.18,
            ),
        ]
    )


def test_js_has_its_sign_turned_and_what_has_no_number_is_left_out(statements: pd.DataFrame) -> None:
    table = specifications_of(statements)
    assert table["strength"].tolist() == [-0.10, 0.55, 0.57, 0.75]
    assert table["shown"].tolist() == [False, False, True, True]
    assert table["dyads"].tolist()[0] == "without the baseline as target"


def test_the_curve_has_every_specification_once_and_rings_the_chosen(statements: pd.DataFrame) -> None:
    figure = specification_curve(statements)
    curve, choices = figure.axes
    points, rings = curve.collections
    assert points.get_offsets()[:, 1].tolist() == [-0.10, 0.55, 0.57, 0.75]
    assert rings.get_offsets()[:, 1].tolist() == [0.57, 0.75]
    # A tick in each of the three groups of choices for every point.
    assert sum(len(ticks.get_segments()) for ticks in choices.collections) == 3 * 4
    said = " ".join(text.get_text() for text in figure.texts)
    assert "4 specifications; in 3 of them" in said
    assert overflowing(figure) == []


def test_influence_has_a_row_for_each_that_is_left_out(statements: pd.DataFrame) -> None:
    table = left_out(statements)
    assert set(zip(table["kind"], table["who"], strict=True)) == {("source", "villain"), ("persona", "french_person")}
    assert table[table["predictor"] == "js"]["strength"].tolist() == [0.80, 0.74]
    figure = influence_figure(statements)
    (axes,) = figure.axes
    marks = [line.get_xdata()[0] for line in axes.lines if line.get_marker() in ("o", "D")]
    assert sorted(marks) == [0.62, 0.64, 0.74, 0.80]
    everybody = [
        line.get_xdata()[0] for line in axes.lines if np.ptp(line.get_xdata()) == 0 and len(line.get_xdata()) == 2
    ]
    assert sorted(everybody) == [0.57, 0.75]
    assert overflowing(figure) == []


def test_statements_without_either_are_refused() -> None:
    nothing = tabulate([Statement(family="leakage", quantity="spearman", view="dyadic", unanswerable="too few")])
    with pytest.raises(ValueError, match="found none of family looks"):
        specification_curve(nothing)
    with pytest.raises(ValueError, match="found none of family influence"):
        influence_figure(nothing)
