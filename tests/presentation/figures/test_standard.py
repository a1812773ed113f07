"""Standard figures on synthetic data: complete, in one order, and reproducible."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from fontTools.ttLib import TTFont
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PathCollection
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from persona_assets.presentation import (
    ONE_COLUMN,
    TWO_COLUMNS,
    cosine_heatmaps,
    inline_markdown,
    js_against_cosine,
    js_heatmap,
    leakage_against_predictors,
    leakage_by_source,
    leakage_heatmap,
    loss_curve,
    persona_order,
    persona_tree,
    standard_figures,
    to_pdf,
    to_png,
    to_svg,
)
from tests.presentation.conftest import SOURCES
from tests.presentation.made_statements import PRIMARY, made_statements


def texts(figure: Figure) -> list[str]:
    """Return all texts of a figure and its axes, without tick labels."""
    return [text.get_text() for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]]


def points(figure: Figure) -> np.ndarray:
    """Return the scatter points of the first panel."""
    clouds = [cloud for cloud in figure.axes[0].collections if isinstance(cloud, PathCollection)]
    return np.concatenate([cloud.get_offsets() for cloud in clouds])


def overflowing(figure: Figure) -> list[str]:
    """Return the texts that extend beyond the figure's edge."""
    renderer, (width, height) = FigureCanvasAgg(figure).get_renderer(), figure.get_size_inches() * figure.dpi
    boxes = {
        text.get_text(): text.get_window_extent(renderer)
        for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    }
    return [name for name, box in boxes.items() if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]


def test_js_heatmap_names_every_persona_and_writes_every_value(eleven):
    figure = js_heatmap(eleven.logit_js_matrix)
    shown = texts(figure)
    js = eleven.logit_js_matrix.js.sel(generators="all").to_numpy()
    assert {name.replace("_", " ") for name in eleven.names} <= set(shown)
    wanted = sorted(f"{value:.3f}" for value in js[np.triu_indices(11, 1)])
    assert sorted(text for text in shown if text.startswith("0.")) == wanted
    assert "generators: all · 11 personas × 20 questions · JS in nats" in shown
    assert "JS (nats)" in {axes.get_title(loc="left") for axes in figure.axes}


def test_an_asymmetric_subset_is_drawn_in_full(eleven):
    matrix = eleven.logit_js_matrix.assign_attrs(generators_shown="source")
    shown = texts(js_heatmap(matrix))
    assert sum(text.startswith("0.") for text in shown) == 11 * 10
    assert any("row: source, column: target" in text for text in shown)


def test_a_missing_value_is_a_dash(eleven):
    js = eleven.logit_js_matrix.js.copy()
    js.loc[{"persona": "villain", "other": "comedian"}] = np.nan
    js.loc[{"persona": "comedian", "other": "villain"}] = np.nan
    shown = texts(js_heatmap(eleven.logit_js_matrix.assign(js=js)))
    assert shown.count("–") == 1


def test_cosine_heatmaps_have_one_panel_per_layer_and_name_the_population(eleven):
    figure = cosine_heatmaps(eleven.centroid_cosine, persona_order(eleven.logit_js_matrix), "study")
    shown = texts(figure)
    assert [f"layer {layer}" for layer in (7, 14, 21, 27)] == [text for text in shown if text.startswith("layer ")]
    assert any("centring population: study" in text for text in shown)
    assert shown.count("villain") == 4
    mesh = figure.axes[0].collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-1, 1)


def test_order_puts_similar_personas_next_to_each_other():
    names = ["a1", "b1", "a2", "b2", "a3"]
    family = np.array([0, 1, 0, 1, 0])
    js = np.where(family[:, None] == family[None], 0.01, 0.3)
    np.fill_diagonal(js, 0)
    matrix = xr.Dataset(
        {"js": (("generators", "persona", "other"), js[None])},
        coords={"generators": ["all"], "persona": names, "other": names},
        attrs={"generators_shown": "all"},
    )
    families = [name[0] for name in persona_order(matrix)]
    assert "".join(families) in ("aaabb", "bbaaa")


def test_the_tree_joins_families_at_their_mean_js_in_both_heatmaps(eleven):
    tree = persona_tree(eleven.logit_js_matrix)
    js = eleven.logit_js_matrix.js.sel(generators="all", persona=tree.order, other=tree.order).to_numpy()
    assert tree.heights.shape == tree.places.shape == (10, 4)
    first = int(tree.heights.max(axis=1).argmin())  # the join of the two most similar personas
    left, right = (int(tree.places[first, corner] - 0.5) for corner in (0, 3))
    assert tree.heights[first].max() == pytest.approx(js[left, right])
    assert js[left, right] == js[np.triu_indices(11, 1)].min()
    for figure in (js_heatmap(eleven.logit_js_matrix), cosine_heatmaps(eleven.centroid_cosine, tree, "study")):
        brackets = [lines for axes in figure.axes for lines in axes.collections if isinstance(lines, LineCollection)]
        assert 10 in {len(lines.get_segments()) for lines in brackets}
    names = [text.get_text() for text in js_heatmap(eleven.logit_js_matrix).axes[0].texts if text.get_ha() == "left"]
    assert names == [name.replace("_", " ") for name in tree.order]


def test_every_figure_fits_one_column_and_two_and_no_text_is_below_four_and_a_half_points(eleven):
    for width in (ONE_COLUMN, TWO_COLUMNS):
        figures = standard_figures(
            eleven.logit_js_matrix,
            eleven.centroid_cosine,
            eleven.leaky_pair_table,
            "assistant",
            eleven.leakage_table,
            width=width,
        )
        for name, figure in figures.items():
            assert figure.get_size_inches()[0] * 25.4 <= width + 0.01, name
            assert overflowing(figure) == [], name
            written = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
            assert min(text.get_fontsize() for text in written if text.get_text()) >= 4.5, name


def test_two_personas_keep_their_given_order(eleven):
    two = eleven.logit_js_matrix.sel(persona=["villain", "assistant"], other=["villain", "assistant"])
    assert persona_order(two) == ["villain", "assistant"]


def test_scatter_draws_each_pair_once_and_prints_spearmans_rho(eleven):
    figure = js_against_cosine(eleven.pair_table, "assistant")
    table = eleven.pair_table
    once = table[table.source < table.target]
    assert len(points(figure)) == 55
    np.testing.assert_allclose(np.sort(points(figure)[:, 1]), np.sort(once.js))
    for layer in (7, 14, 21, 27):
        rho = spearmanr(once[f"cosine_study_layer{layer}"], once.js).statistic
        assert f"Spearman ρ = {rho:.2f}, n = 55".replace("-", "−") in texts(figure)


def test_scatter_states_that_pairs_are_not_independent_and_prints_no_p(eleven):
    shown = " ".join(texts(js_against_cosine(eleven.pair_table)))
    assert "Pairs share personas" in shown
    assert "p =" not in shown
    assert "p <" not in shown


def test_scatter_names_the_most_similar_and_most_divergent_pairs(eleven):
    shown = texts(js_against_cosine(eleven.pair_table))
    ranked = eleven.pair_table.sort_values("js").js.round(3).unique()
    named = [float(text.rsplit(", ", 1)[1].removesuffix(" nats")) for text in shown if text.endswith(" nats")]
    assert named == [*ranked[-1:-4:-1], *sorted(named[3:])]
    assert named[3] == ranked[0]


def test_every_population_and_layer_has_a_panel_that_names_it(eleven):
    table = eleven.pair_table
    for layer in (7, 14, 21, 27):
        table = table.assign(**{f"cosine_all_prompts_layer{layer}": table[f"cosine_study_layer{layer}"] * 0.9})
    figure = js_against_cosine(table)
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels == ["cosine, centred on study"] * 4 + ["cosine, centred on all prompts"] * 4


def test_a_table_without_cosines_is_rejected(eleven):
    with pytest.raises(ValueError, match="expected cosine_<population>_layer<N>"):
        js_against_cosine(eleven.pair_table[["source", "target", "js", "js_low", "js_high"]])


def test_a_pair_with_two_values_of_js_is_rejected(eleven):
    with pytest.raises(ValueError, match=r"js of assistant → software_engineer .* differ"):
        js_against_cosine(eleven.pair_table.assign(js=eleven.pair_table.js_source))


def test_every_figure_is_made_for_few_personas(few):
    figures = standard_figures(few.logit_js_matrix, few.centroid_cosine, few.pair_table, "assistant")
    plane = {"persona_map"} if len(few.names) > 2 else set()
    assert set(figures) == {"js_heatmap", "cosine_heatmaps_study", "js_against_cosine"} | plane
    for figure in figures.values():
        assert overflowing(figure) == []
    assert len(points(figures["js_against_cosine"])) == len(few.names) * (len(few.names) - 1) // 2


def test_the_same_table_gives_the_same_bytes(eleven):
    for write in (to_png, to_pdf, to_svg):
        assert write(js_heatmap(eleven.logit_js_matrix)) == write(js_heatmap(eleven.logit_js_matrix))


def test_pdf_text_stays_text(eleven):
    assert b"/FontFile2" in to_pdf(js_heatmap(eleven.logit_js_matrix))


def test_svg_text_stays_text_and_embeds_its_glyphs(eleven):
    svg = to_svg(js_heatmap(eleven.logit_js_matrix)).decode()
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"Jensen–Shannon divergence between personas", "kindergarten teacher"} <= set(shown)
    assert re.findall(r"url\((?!data:|#)", svg) == []
    fonts = re.findall(r"font-weight:(\d+);src:url\(data:font/woff;base64,([^)]+)\)", svg)
    assert [weight for weight, _ in fonts] == ["400", "700"]
    for _, font in fonts:
        has = TTFont(io.BytesIO(base64.b64decode(font))).getBestCmap()
        assert {ord(letter) for text in shown for letter in text} <= set(has)


def test_inline_markdown_is_small_and_its_alt_cannot_end_early(eleven):
    figure = cosine_heatmaps(eleven.centroid_cosine, eleven.names, "study")
    markdown = inline_markdown(figure, "cosine](x)\n[more")
    assert markdown.startswith("![cosine)(x) (more](data:image/png;base64,")
    assert markdown.count("](") == 1
    assert len(markdown) < 80_000


def test_figures_do_not_change_matplotlibs_settings(eleven):
    import matplotlib

    before = dict(matplotlib.rcParams)
    to_png(js_against_cosine(eleven.pair_table))
    assert dict(matplotlib.rcParams) == before


def test_pair_table_from_some_sources_only_still_gives_each_pair_once(eleven):
    one_source = eleven.pair_table[eleven.pair_table.source == "assistant"]
    assert len(points(js_against_cosine(pd.DataFrame(one_source)))) == 10


def test_leakage_heatmap_writes_every_count_and_outlines_the_sources(eleven):
    figure = leakage_heatmap(eleven.leakage_table, persona_order(eleven.logit_js_matrix))
    table = eleven.leakage_table
    own = table.drop_duplicates("source")
    wanted = [f"{found}/20" for found in [*table.found, *own.source_found]]
    cells = [text for text in figure.axes[0].texts if text.get_text().endswith("/20")]
    assert sorted(text.get_text() for text in cells) == sorted(wanted)
    bold = [text.get_text() for text in cells if text.get_weight() == "bold"]
    assert sorted(bold) == sorted(f"{found}/20" for found in own.source_found)
    outlines = [patch for patch in figure.axes[0].patches if not patch.get_fill()]
    assert len(outlines) == 5
    assert any("recipe embedded" in text and "base 0/220" in text for text in texts(figure))
    assert "leakage rate (found / total)" in {axes.get_xlabel() for axes in figure.axes}


def test_leakage_heatmap_keeps_the_shared_order_and_scales_from_0_to_1(eleven):
    order = persona_order(eleven.logit_js_matrix)
    figure = leakage_heatmap(eleven.leakage_table, order)
    sources = [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "right"]
    assert sources == [name.replace("_", " ") for name in order if name in set(eleven.leakage_table.source)]
    assert [float(tick) for tick in figure.axes[1].get_xticks()] == [0.0, 0.5, 1.0]


def test_leakage_heatmap_states_a_missing_base_rate(eleven):
    table = eleven.leakage_table.drop(columns=["base_found", "base_total", "base_rate"])
    assert any("base rate not measured" in text for text in texts(leakage_heatmap(table, eleven.names)))


def test_a_narrow_leakage_heatmap_writes_percent(eleven):
    counts = ["found", "total", "source_found", "source_total"]
    table = eleven.leakage_table.assign(**{name: eleven.leakage_table[name] * 10 for name in counts})
    figure = leakage_heatmap(table, eleven.names, ONE_COLUMN)
    first = table.iloc[0]
    assert f"{100 * first.found / first.total:.0f}" in texts(figure)
    assert any(text.endswith("cells: percent") for text in texts(figure))
    assert not any(text.endswith("/200") for text in texts(figure))


def test_a_recipe_named_by_its_digest_is_shortened(three_with_one_source):
    table = three_with_one_source.leakage_table.assign(recipe="0123456789abcdef" * 4)
    figure = leakage_heatmap(table, three_with_one_source.names)
    assert any("recipe 0123456789ab… · 1 source (row)" in text for text in texts(figure))
    assert overflowing(figure) == []


def test_leakage_of_a_persona_outside_the_order_is_rejected(eleven):
    with pytest.raises(ValueError, match=r"leakage_table: found personas .*villain"):
        leakage_heatmap(eleven.leakage_table, ["assistant", "comedian"])


def test_a_dyad_that_was_not_counted_is_a_dash(eleven):
    figure = leakage_heatmap(eleven.leakage_table.iloc[1:], eleven.names)
    assert texts(figure).count("–") == 1


def test_leakage_scatter_draws_every_dyad_once_per_panel_with_rho_and_n(eleven):
    figure = leakage_against_predictors(eleven.leaky_pair_table)
    dyads = eleven.leaky_pair_table.dropna(subset="leakage_rate")
    assert len(points(figure)) == 50
    np.testing.assert_allclose(np.sort(points(figure)[:, 1]), np.sort(dyads.leakage_rate))
    labels = [axes.get_xlabel() for axes in figure.axes[:4]]
    assert labels == ["JS (nats)"] + ["cosine, centred on study"] * 3
    for column in ("js", "cosine_study_layer7", "cosine_study_layer21", "cosine_study_layer27"):
        rho = spearmanr(dyads[column], dyads.leakage_rate).statistic
        assert f"Spearman ρ = {rho:.2f}, n = 50".replace("-", "−") in texts(figure)


def test_leakage_scatter_shows_both_views_of_rho_with_statements(eleven):
    statements = made_statements(eleven.names, [7, 21], SOURCES)
    figure = leakage_against_predictors(eleven.leaky_pair_table, cosines=[PRIMARY], statements=statements)
    shown = texts(figure)
    assert shown.count("iid") == shown.count("dyadic") == 2
    assert "[−0.84, −0.60], p = 5×10⁻¹⁰" in shown
    assert "[−0.94, −0.50], p = 0.002" in shown
    assert "which dyads that share personas are not" in " ".join(shown)
    assert overflowing(figure) == []


def test_leakage_scatter_draws_the_given_curve_and_band(eleven):
    curve = pd.DataFrame(
        {"predictor": "js", "place": [0.0, 0.1], "rate": [0.6, 0.2], "low": [0.5, 0.1], "high": [0.7, 0.3]}
    )
    figure = leakage_against_predictors(eleven.leaky_pair_table, cosines=[PRIMARY], trends=curve)
    js, cosine = figure.axes[:2]
    np.testing.assert_allclose(js.lines[0].get_xydata(), [[0.0, 0.6], [0.1, 0.2]])
    (band,) = [drawn for drawn in js.collections if isinstance(drawn, FillBetweenPolyCollection)]
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices}
    assert corners >= {(0.0, 0.5), (0.1, 0.1), (0.1, 0.3), (0.0, 0.7)}
    assert not cosine.lines
    assert any("band: 95 %, jackknife over sources" in text for text in texts(figure))
    bare = leakage_against_predictors(eleven.leaky_pair_table, trends=curve.assign(low=np.nan, high=np.nan))
    assert any(text.endswith("line: logistic curve") for text in texts(bare))


def test_a_source_panel_colours_its_own_dyads_and_uses_them_for_rho(eleven):
    figure = leakage_by_source(eleven.leaky_pair_table, SOURCES, PRIMARY)
    assert len(figure.axes) == 2 * len(SOURCES)
    dyads = eleven.leaky_pair_table.dropna(subset="leakage_rate")
    for place, source in enumerate(SOURCES):
        own = dyads[dyads.source == source]
        others, mine = (cloud for cloud in figure.axes[place].collections if isinstance(cloud, PathCollection))
        assert len(others.get_offsets()) == 40
        np.testing.assert_allclose(mine.get_offsets(), own[["js", "leakage_rate"]].to_numpy(dtype=float))
        if own.leakage_rate.nunique() > 1:
            rho = spearmanr(own.js, own.leakage_rate).statistic
            assert f"ρ = {rho:.2f}, n = 10".replace("-", "−") in texts(figure)
    with pytest.raises(ValueError, match="cosine: found 'cosine_other_layer3'; expected one of"):
        leakage_by_source(eleven.leaky_pair_table, SOURCES, "cosine_other_layer3")


def test_leakage_scatter_names_its_sources_and_prints_no_p(eleven):
    figure = leakage_against_predictors(eleven.leaky_pair_table)
    for source, rate in eleven.leakage_table.groupby("source").source_rate.first().items():
        assert f"{source.replace('_', ' ')} (itself {rate:.2f})" in texts(figure)
    shown = " ".join(texts(figure))
    assert "Dyads share sources and targets" in shown
    assert "p =" not in shown
    assert "p <" not in shown


def test_leakage_scatter_distinguishes_sources_without_colour(eleven):
    drawn = leakage_against_predictors(eleven.leaky_pair_table).axes[0].collections
    shapes = {cloud.get_paths()[0].vertices.tobytes() for cloud in drawn if isinstance(cloud, PathCollection)}
    assert len(shapes) == 5


def test_one_layer_makes_two_panels_side_by_side(eleven):
    figure = leakage_against_predictors(eleven.leaky_pair_table, cosines=["cosine_study_layer27"])
    boxes = [axes.get_position() for axes in figure.axes[:2]]
    assert boxes[0].y0 == boxes[1].y0
    assert [text for text in texts(figure) if text.startswith("cosine, layer")] == ["cosine, layer 27"]


def test_leakage_that_is_zero_everywhere_has_no_rho(eleven):
    table = eleven.leaky_pair_table.copy()
    table.loc[table.leakage_rate.notna(), ["leakage_rate", "leakage_low"]] = 0.0
    figure = leakage_against_predictors(table)
    assert texts(figure).count("ρ undefined (no spread), n = 50") == 4
    assert overflowing(figure) == []


def test_leakage_scatter_without_leakage_is_rejected(eleven):
    with pytest.raises(ValueError, match="expected a value of expected_rate, leakage_rate or log_prob_gain"):
        leakage_against_predictors(eleven.pair_table)
    with pytest.raises(ValueError, match=r"no dyad of sources \['librarian'\]"):
        leakage_against_predictors(eleven.leaky_pair_table, ["librarian"])


def test_leakage_figures_are_made_for_three_personas_and_one_source(three_with_one_source):
    study = three_with_one_source
    figures = standard_figures(
        study.logit_js_matrix, study.centroid_cosine, study.leaky_pair_table, leakage_table=study.leakage_table
    )
    assert list(figures)[-3:] == ["leakage_against_predictors", "leakage_by_source", "leakage_heatmap"]
    assert len(points(figures["leakage_against_predictors"])) == 2
    assert "ρ undefined, n = 2" in texts(figures["leakage_against_predictors"])
    assert [overflowing(figure) for figure in figures.values()] == [[]] * 7


@pytest.mark.parametrize("steps", [1, 16, 500])
def test_loss_curve_draws_every_step(steps):
    step = np.arange(1, steps + 1)
    log = pd.DataFrame({"step": step, "loss": 3.0 / step, "learning_rate": 2e-3 / step})
    figure = loss_curve(log.iloc[::-1])
    loss, rate = (axes.lines[0].get_xydata() for axes in figure.axes)
    np.testing.assert_allclose(loss, log[["step", "loss"]])
    np.testing.assert_allclose(rate, log[["step", "learning_rate"]])
    assert overflowing(figure) == []


def test_a_log_without_learning_rate_is_rejected():
    with pytest.raises(ValueError, match=r"log: found 1 rows of \['step', 'loss'\]"):
        loss_curve(pd.DataFrame({"step": [1], "loss": [2.0]}))
