"""Figures of the statements: every specification once, with the expected sign."""

import numpy as np
import pandas as pd
import pytest

from persona_assets.presentation import ONE_COLUMN, TWO_COLUMNS
from persona_assets.presentation.figures.coupling import coupling_known, coupling_panels
from persona_assets.presentation.figures.influence import influence_figure, left_out
from persona_assets.presentation.figures.layer_profile import layer_profile, profile
from persona_assets.presentation.figures.specification import specification_curve, specifications_of
from persona_assets.presentation.layout.two_views import two_views
from persona_assets.statistics import Statement, tabulate
from tests.presentation.conftest import SOURCES, Synthetic
from tests.presentation.figures.test_standard import overflowing
from tests.presentation.made_statements import PRIMARY, made_statements

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


def test_js_has_its_sign_flipped_and_missing_estimates_are_left_out(statements: pd.DataFrame) -> None:
    table = specifications_of(statements)
    assert table["strength"].tolist() == [-0.10, 0.55, 0.57, 0.75]
    assert table["shown"].tolist() == [False, False, True, True]
    assert table["dyads"].tolist()[0] == "without the baseline as target"


def test_the_curve_has_every_specification_once_and_rings_the_chosen_ones(statements: pd.DataFrame) -> None:
    figure = specification_curve(statements)
    curve, choices = figure.axes
    points, rings = curve.collections
    assert points.get_offsets()[:, 1].tolist() == [-0.10, 0.55, 0.57, 0.75]
    assert rings.get_offsets()[:, 1].tolist() == [0.57, 0.75]
    # Every point has a tick in each of the three groups of choices.
    assert sum(len(ticks.get_segments()) for ticks in choices.collections) == 3 * 4
    said = " ".join(text.get_text() for text in figure.texts)
    assert "4 specifications; in 3 of them" in said
    assert overflowing(figure) == []


def test_influence_has_a_row_per_omitted_source_and_persona(statements: pd.DataFrame) -> None:
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


def test_the_profile_has_js_with_flipped_sign_and_every_layer_with_its_dyadic_interval(eleven: Synthetic) -> None:
    table = profile(made_statements(eleven.names, [7, 21], SOURCES))
    assert table["predictor"].tolist() == ["js", "cosine_study_layer7", PRIMARY]
    assert table["strength"].tolist() == pytest.approx([0.72, 0.3, 0.4])
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.5, 0.94])
    assert table["layer"].tolist()[1:] == [7, 21]
    figure = layer_profile(made_statements(eleven.names, [7, 21], SOURCES), PRIMARY)
    line = next(line for line in figure.axes[0].lines if line.get_marker() == "D")
    np.testing.assert_allclose(line.get_xydata(), [[7, 0.3], [21, 0.4]])
    assert "ringed: the cosine of the verdict" in " ".join(text.get_text() for text in figure.texts)
    assert overflowing(figure) == []


@pytest.mark.parametrize("width", [ONE_COLUMN, TWO_COLUMNS])
def test_coupling_names_every_persona_in_every_panel(eleven: Synthetic, width: float) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame({"persona": eleven.names[1:], "source_rate": random.uniform(0.3, 0.7, 10)})
    table = table.assign(js=random.uniform(0.01, 0.05, 10), cosine_layer10=random.uniform(-0.5, 0.5, 10))
    figure = coupling_panels(table, "assistant", made_statements(eleven.names, [7], SOURCES), width=width)
    panels = [axes for axes in figure.axes if axes.texts]
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in panels] == [
        ("JS (nats)", "source rate"),
        ("cosine L10", "source rate"),
        ("JS (nats)", "cosine L10"),
    ]
    for axes in panels:
        assert {text.get_text() for text in axes.texts} == {name.replace("_", " ") for name in table["persona"]}
    r = np.corrcoef(table["js"], table["source_rate"])[0, 1]
    shown = [text.get_text() for text in figure.texts]
    assert f"Pearson r = {r:.2f}, n = 10".replace("-", "−") in shown
    assert "[0.32, 0.76], p = 0.1" in shown  # the dyadic view of JS
    assert overflowing(figure) == []


def test_coupling_of_one_persona_is_rejected() -> None:
    table = pd.DataFrame({"persona": ["villain"], "source_rate": [0.5], "js": [0.1]})
    with pytest.raises(ValueError, match="coupling: found 1 personas with a source rate"):
        coupling_panels(table, "assistant")
    assert not coupling_known(table)


def test_a_statement_without_estimate_is_reported_above_the_panel() -> None:
    unanswerable = Statement(
        family="leakage",
        quantity="spearman",
        view="dyadic",
        outcome="leakage_rate",
        predictor="js",
        unanswerable="too few",
    )
    said = two_views(tabulate([unanswerable]), "leakage", "spearman", "js", "leakage_rate")
    assert said == [("dyadic", "not computed")]
    assert two_views(None, "leakage", "spearman", "js", "leakage_rate") == []


def test_statements_without_estimates_are_rejected() -> None:
    nothing = tabulate([Statement(family="leakage", quantity="spearman", view="dyadic", unanswerable="too few")])
    with pytest.raises(ValueError, match="no row of family looks"):
        specification_curve(nothing)
    with pytest.raises(ValueError, match="found no Spearman of leakage with a cosine"):
        layer_profile(nothing)
    with pytest.raises(ValueError, match="no row of family influence"):
        influence_figure(nothing)
