"""Figures by outcome: each shows its own values, scale, unit and interval; trained negatives are marked."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from persona_assets.presentation import (
    ONE_COLUMN,
    follow_curve,
    leakage_against_predictors,
    leakage_by_source,
    leakage_heatmap,
    reliability_figure,
    standard_figures,
    variance_components_figure,
)
from persona_assets.presentation.figures.captions import caption, position_of
from persona_assets.presentation.figures.leakage_cells import leakage_cells
from persona_assets.presentation.figures.reliability import corrected_of, reliabilities_of
from persona_assets.presentation.figures.variance_components import components_of
from persona_assets.presentation.layout.outcomes import EXPECTED, GAIN, OUTCOMES, SAMPLED, chosen_outcome
from persona_assets.statistics import tabulate
from tests.presentation.conftest import LAYERS, SOURCES, Synthetic
from tests.presentation.figures.test_standard import overflowing, points, texts
from tests.presentation.made_statements import COMPONENTS, PRIMARY, made_reliability, made_statements


@pytest.fixture(scope="module")
def statements(eleven: Synthetic) -> pd.DataFrame:
    made = made_statements(eleven.names, LAYERS, SOURCES)
    about = made["family"].isin(["leakage", "comparison"]) & (made["outcome"] == "leakage_rate")
    made["outcome"] = made["outcome"].mask(about, "expected_rate")
    return pd.concat([made, tabulate(made_reliability())], ignore_index=True)


def corners(figure: Figure) -> list[Polygon]:
    return [patch for patch in figure.axes[0].patches if type(patch) is Polygon]


def test_the_first_measured_outcome_is_the_default(eleven: Synthetic) -> None:
    assert chosen_outcome(eleven.full_pair_table) is EXPECTED
    assert chosen_outcome(eleven.leaky_pair_table) is SAMPLED
    assert chosen_outcome(eleven.full_pair_table.assign(expected_rate=np.nan)) is SAMPLED
    assert chosen_outcome(eleven.full_pair_table, "log_prob_gain") is GAIN
    with pytest.raises(ValueError, match=r"outcome: found 'expected_rate'; expected one of .*\['leakage_rate'\]"):
        chosen_outcome(eleven.leaky_pair_table, "expected_rate")


@pytest.mark.parametrize("outcome", ["expected_rate", "log_prob_gain"])
def test_the_heatmap_writes_every_value_and_the_sources_own(eleven: Synthetic, outcome: str) -> None:
    table, decimals = eleven.full_leakage_table, OUTCOMES[outcome].decimals
    figure = leakage_heatmap(table, eleven.names, outcome=outcome)
    own = table.drop_duplicates("source")[f"source_{outcome}"]
    wanted = [f"{value:.{decimals}f}" for value in [*table[outcome], *own]]
    cells = [text for text in figure.axes[0].texts if "." in text.get_text()]
    assert sorted(text.get_text() for text in cells) == sorted(wanted)
    assert sorted(t.get_text() for t in cells if t.get_weight() == "bold") == sorted(f"{v:.{decimals}f}" for v in own)
    assert OUTCOMES[outcome].axis in {axes.get_xlabel() for axes in figure.axes}
    assert overflowing(figure) == []


def test_gains_have_a_scale_of_their_own_that_includes_0(eleven: Synthetic) -> None:
    table = eleven.full_leakage_table
    bars = [leakage_heatmap(table, eleven.names, outcome=name).axes[1].get_xlim() for name in OUTCOMES]
    assert bars[0] == bars[1] == (0.0, 1.0)
    highest = max(table["log_prob_gain"].max(), table["source_log_prob_gain"].max())
    assert bars[2] == (0.0, pytest.approx(highest))
    fallen = table.assign(log_prob_gain=table["log_prob_gain"] - 6)
    low = leakage_heatmap(fallen, eleven.names, outcome="log_prob_gain").axes[1].get_xlim()[0]
    assert low == pytest.approx(fallen["log_prob_gain"].min())
    assert low < 0


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_trained_negatives_have_a_corner(eleven: Synthetic, outcome: str) -> None:
    table = eleven.full_leakage_table
    figure = leakage_heatmap(table, eleven.names, outcome=outcome)
    assert len(corners(figure)) == int(table["trained_negative"].sum()) == 10
    assert "trained negative" in texts(figure)
    cells = leakage_cells(table, OUTCOMES[outcome])
    marked = {dyad for dyad, cell in cells.items() if cell.is_negative}
    assert marked == set(table.loc[table["trained_negative"], ["source", "target"]].itertuples(index=False, name=None))


@pytest.mark.parametrize("flags", [False, pd.NA])
def test_without_trained_negatives_there_is_no_corner_and_no_key(eleven: Synthetic, flags: object) -> None:
    table = eleven.full_leakage_table.assign(trained_negative=pd.array([flags] * 50, dtype="boolean"))
    figure = leakage_heatmap(table, eleven.names)
    assert corners(figure) == []
    assert "trained negative" not in texts(figure)


def test_a_narrow_heatmap_of_gains_fits(eleven: Synthetic) -> None:
    figure = leakage_heatmap(eleven.full_leakage_table, eleven.names, ONE_COLUMN, "log_prob_gain")
    assert overflowing(figure) == []


def test_a_dyad_that_lacks_the_outcome_is_a_dash(eleven: Synthetic) -> None:
    table = eleven.full_leakage_table.copy()
    table.loc[3, "expected_rate"] = np.nan
    assert texts(leakage_heatmap(table, eleven.names)).count("–") == 1
    with pytest.raises(
        ValueError, match=r"leakage_table: found the outcomes \['leakage_rate'\]; expected log_prob_gain"
    ):
        leakage_heatmap(eleven.leakage_table, eleven.names, outcome="log_prob_gain")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_scatters_draw_the_outcome_with_its_interval_and_unit(eleven: Synthetic, outcome: str) -> None:
    pairs = eleven.full_pair_table
    figure = leakage_against_predictors(pairs, cosines=[PRIMARY], outcome=outcome)
    measured = pairs.dropna(subset=outcome)
    np.testing.assert_allclose(np.sort(points(figure)[:, 1]), np.sort(measured[outcome]))
    assert figure.axes[0].get_ylabel() == OUTCOMES[outcome].axis
    assert any(OUTCOMES[outcome].bars in text for text in texts(figure))
    bottom, top = figure.axes[0].get_ylim()
    assert bottom <= measured[OUTCOMES[outcome].low].min()
    assert top >= min(1.0 if OUTCOMES[outcome].is_rate else np.inf, measured[OUTCOMES[outcome].high].max())
    assert overflowing(figure) == []
    by_source = leakage_by_source(pairs, SOURCES, PRIMARY, outcome=outcome)
    assert by_source.axes[0].get_ylabel() == OUTCOMES[outcome].short
    assert overflowing(by_source) == []


def test_standard_figures_show_the_outcome_of_the_statements_and_the_other_by_log_probability(
    eleven: Synthetic, statements: pd.DataFrame
) -> None:
    matrices = (eleven.logit_js_matrix, eleven.centroid_cosine, eleven.full_pair_table, "assistant")
    figures = standard_figures(*matrices, eleven.full_leakage_table, statements, PRIMARY)
    shown = {name: figure.axes[0].get_ylabel() for name, figure in figures.items() if "against_predictors" in name}
    assert shown == {
        "leakage_against_predictors": EXPECTED.axis,
        "leakage_against_predictors_log_prob_gain": GAIN.axis,
    }
    assert {"leakage_heatmap", "leakage_heatmap_log_prob_gain", "reliability", "variance_components"} <= set(figures)
    about_gain = statements.assign(outcome=statements["outcome"].replace("expected_rate", "log_prob_gain"))
    other = standard_figures(*matrices, eleven.full_leakage_table, about_gain, PRIMARY)
    assert other["leakage_against_predictors"].axes[0].get_ylabel() == GAIN.axis
    assert "leakage_heatmap_expected_rate" in other
    order = sorted(figures, key=position_of)
    assert order.index("leakage_against_predictors_log_prob_gain") < order.index("leakage_heatmap")


def test_captions_define_the_outcome_that_is_shown(eleven: Synthetic) -> None:
    def said(name: str, table: pd.DataFrame = eleven.full_leakage_table, outcome: str = "") -> str:
        return caption(name, eleven.logit_js_matrix, table, outcome)

    assert said("leakage_heatmap").startswith("Expected rate: the probability")
    assert "base at most 2×10⁻⁷ before training" in said("leakage_heatmap")
    assert said("leakage_heatmap", outcome="leakage_rate").startswith("Leakage rate: the share")
    assert said("leakage_heatmap_log_prob_gain", outcome="expected_rate").startswith("Gain in log-probability (nats)")
    assert "a straight line through all dyads" in said("leakage_against_predictors_log_prob_gain")
    assert "A filled corner marks trained negatives" in said("leakage_heatmap")
    assert "Which targets were trained negatives is not known" in said("leakage_heatmap", eleven.leakage_table)
    assert "leakage (expected rate)" in said("layer_profile")


def test_variance_components_are_drawn_as_shares_that_add_up(statements: pd.DataFrame) -> None:
    table = components_of(statements)
    assert table["component"].tolist() == list(COMPONENTS)
    assert table["share"].sum() == pytest.approx(1)
    figure = variance_components_figure(statements)
    widths = [patch.get_width() for patch in figure.axes[0].patches]
    np.testing.assert_allclose(widths, 100 * np.nan_to_num([*COMPONENTS.values()]) / np.nansum([*COMPONENTS.values()]))
    assert "29 %   1.2 nats" in texts(figure)
    assert texts(figure).count("not separable here") == 1
    assert overflowing(figure) == []
    with pytest.raises(ValueError, match="no variance component has an estimate"):
        variance_components_figure(statements[statements["family"] != "noise"])


def test_reliability_is_drawn_for_every_outcome_with_both_correlations(statements: pd.DataFrame) -> None:
    table = reliabilities_of(statements)
    assert set(table["outcome"]) == set(OUTCOMES)
    figure = reliability_figure(statements)
    left, right = figure.axes
    drawn = sorted(float(line.get_xdata()[0]) for line in left.lines if line.get_marker() in ("o", "s", "D"))
    np.testing.assert_allclose(drawn, np.sort(table["estimate"]))
    corrected = corrected_of(statements)
    assert (corrected["corrected"] > corrected["observed"]).all()
    assert (corrected["low"] < corrected["high"]).all()
    marks = [line for line in right.lines if line.get_marker() in ("o", "D")]
    hollow = sorted(float(line.get_xdata()[0]) for line in marks if line.get_markerfacecolor() == "white")
    np.testing.assert_allclose(hollow, np.sort(corrected["observed"]))
    assert overflowing(figure) == []
    alone = reliability_figure(statements[statements["quantity"] != "spearman corrected for attenuation"])
    assert len(alone.axes) == 1
    assert overflowing(alone) == []
    with pytest.raises(ValueError, match="no reliability has an estimate"):
        reliability_figure(statements[statements["family"] != "noise"])


def test_following_averages_seeds_and_labels_every_target() -> None:
    rows = [
        (seed, step, target, (0.1 + 0.1 * seed) * step / 20 * factor)
        for seed in (0, 1)
        for step in (10, 20)
        for target, factor in (("villain", 4), ("data_scientist", 1))
    ]
    followed = pd.DataFrame(rows, columns=["seed", "step", "target", "expected_rate"])
    figure = follow_curve(followed.sample(frac=1, random_state=0), "villain")
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 2]
    np.testing.assert_allclose([line.get_ydata() for line in lines], [[0.3, 0.6], [0.075, 0.15]])
    assert lines[0].get_linewidth() > lines[1].get_linewidth()
    assert {"villain", "data scientist"} <= {text.get_text() for text in figure.axes[0].texts}
    assert any("mean of 2 seeds" in text for text in texts(figure))
    with pytest.raises(ValueError, match="followed: found 0 rows of"):
        follow_curve(followed[:0], "villain")
