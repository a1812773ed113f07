"""The standard figures of a checkpoint, by name, with their captions."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from persona_assets.presentation.figures.coupling import coupling_known, coupling_panels
from persona_assets.presentation.figures.heatmaps import cosine_heatmaps, js_heatmap
from persona_assets.presentation.figures.influence import influence_figure, left_out
from persona_assets.presentation.figures.layer_profile import layer_profile, profile
from persona_assets.presentation.figures.leakage_by_source import leakage_by_source
from persona_assets.presentation.figures.leakage_cells import base_text
from persona_assets.presentation.figures.leakage_heatmap import leakage_heatmap, recipe_names
from persona_assets.presentation.figures.leakage_scatter import DYADS_NOT_INDEPENDENT, leakage_against_predictors
from persona_assets.presentation.figures.map import map_of_personas
from persona_assets.presentation.figures.scatter import js_against_cosine
from persona_assets.presentation.figures.specification import specification_curve, specifications_of
from persona_assets.presentation.figures.token_js import js_along_response
from persona_assets.presentation.layout.ordering import persona_tree
from persona_assets.presentation.layout.pairs import cosine_columns
from persona_assets.presentation.layout.style import TWO_COLUMNS, display_name
from persona_assets.presentation.summaries.extremes import complete

_COSINES = "cosine_heatmaps_"
TOKENS = "js_along_response"
LEAKAGE_FIGURES = (
    "leakage_against_predictors",
    "leakage_by_source",
    "leakage_heatmap",
    "layer_profile",
    "coupling",
    "specification_curve",
    "influence",
)

_RESPONSES_OF = {
    "all": "every generator",
    "pair": "the two personas of the pair",
    "source": "the source (the persona of the row)",
    "target": "the target (the persona of the column)",
    "others": "every generator except the two personas of the pair",
    "landmarks": "the landmarks",
    "sources": "the sources",
    "all_estimated": "every generator, estimated from the landmarks",
}

_RATE = (
    "Leakage rate: the share of the target’s sampled replies that contain the marker (found / total) after a LoRA "
    "adapter was trained to write it as the source."
)
_LEAKAGE = {
    "leakage_heatmap": (
        f"{_RATE} One row per source and one column per target, both in the order of the JS matrix; outlined cells are "
        "sources on themselves. The report’s table of dyads lists the Wilson 95 % interval of every rate."
    ),
    "leakage_against_predictors": (
        f"{_RATE} One point per dyad, against JS and against the cosine of the two centroids that the verdict is "
        "about. Colour and shape show the source; its rate on itself is in the legend and not plotted. Bars: Wilson "
        "95 % intervals of found / total. Line: a logistic curve through all dyads. Band: uncertainty of the curve due "
        "to the choice of sources (95 %, jackknife over sources); it is not a prediction interval for dyads. Above: ρ "
        "with its interval and p, treating dyads as independent (iid) and accounting for shared personas (dyadic)."
    ),
    "leakage_by_source": (
        f"{_RATE} One panel per source and predictor: the source’s dyads in colour, all others in grey, and Spearman’s "
        "ρ within the source. Bars: Wilson 95 % intervals. With one dyad per target, a single ρ is uncertain; what "
        "matters is whether the sources agree."
    ),
    "layer_profile": (
        "Spearman’s ρ of the leakage rate with the cosine of the two centroids at each layer, one line per centring "
        "population, and ρ with JS (sign flipped). Bars and band: dyadic 95 % intervals. They are wide, and the layer "
        f"with the highest ρ among several is partly selected by chance. {DYADS_NOT_INDEPENDENT}"
    ),
    "coupling": (
        "Each point is a persona that a marker was trained into. The panels show its source rate (the rate on itself) "
        "against its JS and its cosine to the baseline, and these two against each other, with Pearson’s r in both "
        "views. All personas are compared with the same baseline; another baseline could give other values."
    ),
    "specification_curve": (
        "Correlation of the leakage rate with JS and with every cosine, for every defensible coefficient, subset of "
        "dyads and choice of generators, sorted. The ticks below show the choices of each point. The sign of JS is "
        f"flipped: positive values mean that more similar personas leak more. {DYADS_NOT_INDEPENDENT}"
    ),
    "influence": (
        "Spearman’s ρ of the leakage rate with JS (sign flipped) and with the cosine that the verdict is about, after "
        "leaving out each source and each persona. A row far from the others means that the result depends on it. "
        f"{DYADS_NOT_INDEPENDENT}"
    ),
}


def standard_figures(
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    pair_table: pd.DataFrame,
    baseline: str | None = None,
    leakage_table: pd.DataFrame | None = None,
    partial_correlations: pd.DataFrame | None = None,
    primary_cosine: str = "",
    trends: pd.DataFrame | None = None,
    source_rates: pd.DataFrame | None = None,
    tokens: pd.DataFrame | None = None,
    width: float = TWO_COLUMNS,
) -> dict[str, Figure]:
    """Draw all standard figures of a checkpoint.

    Args:
        logit_js_matrix, centroid_cosine, pair_table: as in `js_heatmap`, `cosine_heatmaps`, `js_against_cosine`.
        baseline: the persona whose pairs are highlighted in the scatter.
        leakage_table: as in `leakage_heatmap`; the pair table then needs the leakage columns too.
        partial_correlations: the statements about leakage; figures without an estimate are left out.
        primary_cosine: column of the cosine that the verdict is about.
        trends: as in `leakage_against_predictors`.
        source_rates: as in `coupling_panels`.
        tokens: as in `js_along_response`.
        width: maximum width of a figure, in millimetres.

    Returns:
        Figures by name: `js_heatmap`, `persona_map`, `cosine_heatmaps_<population>`, `js_against_cosine`,
        `js_along_response` and, if leakage was measured, the names in `LEAKAGE_FIGURES`. The scatter needs a cosine in
        the pair table, the map at least three personas, and JS along a response JS per token; they are left out
        otherwise.
    """
    tree = persona_tree(logit_js_matrix)
    figures = {"js_heatmap": js_heatmap(logit_js_matrix, width)}
    if len(tree.order) > 2 and complete(logit_js_matrix):
        figures["persona_map"] = map_of_personas(logit_js_matrix, baseline)
    for population in centroid_cosine["population"].values:
        figures[f"{_COSINES}{population}"] = cosine_heatmaps(centroid_cosine, tree, str(population), width)
    if cosine_columns(pair_table):
        figures["js_against_cosine"] = js_against_cosine(pair_table, baseline, partial_correlations, width)
    if tokens is not None and tokens["js"].notna().any():
        figures[TOKENS] = js_along_response(tokens, width)
    if leakage_table is not None:
        named = set(leakage_table["source"])
        sources = [persona for persona in tree.order if persona in named]
        cosines = [primary_cosine] if primary_cosine else None
        figures["leakage_against_predictors"] = leakage_against_predictors(
            pair_table, sources, cosines, partial_correlations, trends, width
        )
        figures["leakage_by_source"] = leakage_by_source(pair_table, sources, primary_cosine or None, width)
        figures["leakage_heatmap"] = leakage_heatmap(leakage_table, tree.order, width)
    if partial_correlations is not None:
        if profile(partial_correlations)["layer"].notna().any():
            figures["layer_profile"] = layer_profile(partial_correlations, primary_cosine)
        if source_rates is not None and baseline and coupling_known(source_rates):
            figures["coupling"] = coupling_panels(source_rates, baseline, partial_correlations, primary_cosine, width)
        if len(specifications_of(partial_correlations)):
            figures["specification_curve"] = specification_curve(partial_correlations, width)
        if left_out(partial_correlations)["strength"].notna().any():
            figures["influence"] = influence_figure(partial_correlations)
    return figures


def position_of(name: str) -> int:
    """Return the position of a figure on the page; unknown figures come last."""
    kinds = ("js_heatmap", "persona_map", _COSINES, "js_against_cosine", TOKENS, *LEAKAGE_FIGURES)
    return next((place for place, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))


def caption(name: str, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None = None) -> str:
    """Return the caption of a figure of `standard_figures`; for other names, return the name in words.

    If the leakage table is given, captions of leakage figures include the recipe and the base rate.
    """
    attrs = logit_js_matrix.attrs
    order = (
        "Personas are ordered by average-linkage clustering of JS. The tree next to the rows joins two groups at the "
        "mean JS between them."
    )
    stair = "Each persona’s name is at the end of its row and the top of its column."
    if name == "js_heatmap":
        return (
            "Jensen–Shannon divergence (JS, in nats: 0 for equal distributions, at most ln 2 ≈ 0.693) between two "
            "personas’ next-token distributions on the same response, averaged over its tokens, then with equal weight "
            f"over the responses of {averaged_over(logit_js_matrix)} to {attrs['questions']} questions. {order} {stair}"
        )
    if name == "persona_map":
        return (
            "Personas as points whose distances approximate √JS (classical scaling of the JS matrix; √JS is a metric), "
            f"with JS over the responses of {averaged_over(logit_js_matrix)}. Percentages: the share of the squared "
            "distances that each axis preserves. Ellipses: 95 % of a point’s positions when questions are resampled "
            "and each map is aligned with this one. The directions of the axes have no meaning."
        )
    if name.startswith(_COSINES):
        population = display_name(name.removeprefix(_COSINES))
        return (
            "Cosine between persona centroids. A centroid is the hidden state of the prompt’s last token after decoder "
            "block N (layer N), averaged over questions, minus the mean centroid of the centring population "
            f"“{population}”. Order and tree are those of JS; the colour scale runs from −1 to 1. {stair}"
        )
    if name == "js_against_cosine":
        return (
            f"JS over the responses of {averaged_over(logit_js_matrix)} against the cosine of the two centroids, "
            "one point per pair, one panel per centring population and layer. "
            f"Bars: {interval_text(logit_js_matrix)}. "
            "Letters mark the most divergent and the most similar pairs. Pairs that share a persona are not "
            "independent: the iid values ignore this, the dyadic values account for it."
        )
    if name == TOKENS:
        return (
            "JS (nats) at every token of one response, between the next-token distributions of the persona that wrote "
            "it and of the other persona of the most divergent pair. It is the response with the highest mean JS among "
            "both personas’ responses to all questions, so it is an extreme and not typical. Below: its lines with the "
            "most JS, with a bar over every token."
        )
    if name in LEAKAGE_FIGURES:
        return f"{_LEAKAGE[name]}{_how_trained(leakage_table)}"
    return display_name(name)


def _how_trained(leakage_table: pd.DataFrame | None) -> str:
    if leakage_table is None:
        return ""
    return f" Recipe: {recipe_names(leakage_table)}; {base_text(leakage_table)}."


def averaged_over(logit_js_matrix: xr.Dataset) -> str:
    """Describe whose responses the shown JS is averaged over."""
    return _RESPONSES_OF[str(logit_js_matrix.attrs["generators_shown"])]


def interval_text(logit_js_matrix: xr.Dataset) -> str:
    """Describe how the intervals of JS were made."""
    attrs = logit_js_matrix.attrs
    if attrs["generators_shown"] == "all_estimated":
        return f"{float(attrs['level']):.0%} intervals, jackknife over landmarks and over questions"
    return f"{float(attrs['level']):.0%} intervals, bootstrap over questions, {int(attrs['resamples'])} resamples"
