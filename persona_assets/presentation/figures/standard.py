"""The figures of a checkpoint, by name, and what each of them shows."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from persona_assets.presentation.figures.coupling import coupling_known, coupling_panels
from persona_assets.presentation.figures.heatmaps import cosine_heatmaps, js_heatmap
from persona_assets.presentation.figures.influence import influence_figure, left_out
from persona_assets.presentation.figures.layer_profile import layer_profile, profile
from persona_assets.presentation.figures.leakage_by_source import leakage_by_source
from persona_assets.presentation.figures.leakage_heatmap import base_text, leakage_heatmap, recipe_names
from persona_assets.presentation.figures.leakage_scatter import DYADS_NOT_INDEPENDENT, leakage_against_predictors
from persona_assets.presentation.figures.map import map_of_personas
from persona_assets.presentation.figures.scatter import js_against_cosine
from persona_assets.presentation.figures.specification import specification_curve, specifications_of
from persona_assets.presentation.figures.token_js import js_along_response
from persona_assets.presentation.layout.ordering import persona_tree
from persona_assets.presentation.layout.pairs import cosine_columns
from persona_assets.presentation.layout.style import TWO_COLUMNS, spoken
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
    "source": "the source, the persona that names the row",
    "target": "the target, the persona that names the column",
    "others": "every generator but the two personas of the pair",
    "landmarks": "the landmarks",
    "sources": "the sources",
    "all_estimated": "every generator, estimated from the landmarks’",
}

_RATE = (
    "Leakage rate: the share of the target’s sampled replies that contain the marker, found / total, once a LoRA "
    "adapter has trained it into the source."
)
_LEAKAGE = {
    "leakage_heatmap": (
        f"{_RATE} One row a source, one column a target, both ordered as for JS; outlined, the source on itself. "
        "The report’s table of dyads gives the Wilson 95 % interval of every rate."
    ),
    "leakage_against_predictors": (
        f"{_RATE} One point a dyad, against JS and against the cosine of the two centroids (the one that the verdict "
        "is about); colour and shape name the source, whose rate on itself stands in the legend and is not plotted. "
        "Bars: Wilson 95 % intervals of found / total. Line: a logistic curve through all dyads; band: how far other "
        "sources could move it (95 %, jackknife over sources), not where a dyad may lie. Above: ρ with its interval "
        "and p, as if dyads were independent (iid) and as their shared personas allow (dyadic)."
    ),
    "leakage_by_source": (
        f"{_RATE} One panel a source: its dyads in colour, those of the others in grey, Spearman’s ρ within the "
        "source. Bars: Wilson 95 % intervals. With as many dyads as there are targets a single ρ is uncertain; what "
        "counts is whether sources agree."
    ),
    "layer_profile": (
        "Spearman’s ρ of the leakage rate with the cosine of the two centroids, layer by layer, a line a centring "
        "population, beside ρ with JS (its sign turned). Bars and band: the dyadic 95 % intervals; they are wide, and "
        f"a highest layer that is chosen among several is chosen by chance too. {DYADS_NOT_INDEPENDENT}"
    ),
    "coupling": (
        "Each point a persona that a marker was trained into: its source rate (the marker on itself) against its JS "
        "and cosine to the baseline, and the two against each other, with Pearson’s r in both views. All personas are "
        "compared with the one baseline: another baseline would be another draw."
    ),
    "specification_curve": (
        "Correlation of the leakage rate with JS and with every cosine, under every coefficient, subset of dyads and "
        "choice of generators that somebody might defend, sorted; ticks below say which choices a point stands for. "
        f"JS has its sign turned, so that up means: the more alike, the more leaks. {DYADS_NOT_INDEPENDENT}"
    ),
    "influence": (
        "Spearman’s ρ of the leakage rate with JS (sign turned) and with the cosine that the verdict is about, without "
        "each source and without each persona. Where one row lies apart, the result is carried by one. "
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
    """Every figure that the room draws, keyed `js_heatmap`, `persona_map`, `cosine_heatmaps_<population>`,
    `js_against_cosine`, `js_along_response`, and, where leakage was measured, by the names of `LEAKAGE_FIGURES`.

    Args:
        logit_js_matrix, centroid_cosine, pair_table: as `js_heatmap`, `cosine_heatmaps`, `js_against_cosine` take them.
        baseline: the persona whose pairs the scatter tells apart.
        leakage_table: as `leakage_heatmap` takes it; the pair table then holds leakage too.
        partial_correlations: the statements about leakage; figures of what they cannot answer are left out.
        primary_cosine: column of the cosine that the verdict is about.
        trends: as `leakage_against_predictors` takes them.
        source_rates: as `coupling_panels` takes it.
        tokens: as `js_along_response` takes them.
        width: millimetres that no figure exceeds; those that need less take less.

    Returns:
        The scatter is left out where the pair table holds no cosine, the map where there are two personas, JS along a
        response where JS per token is not known.
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


def place_of(name: str) -> int:
    """Where a figure stands on a page: what the headline is about first, what is asked of it last."""
    kinds = ("js_heatmap", "persona_map", _COSINES, "js_against_cosine", TOKENS, *LEAKAGE_FIGURES)
    return next((place for place, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))


def caption(name: str, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None = None) -> str:
    """What the figure of that name shows, in full; a name that is not of `standard_figures` is only spoken.

    The recipe and the base rate of leakage are named where the leakage table is given.
    """
    attrs = logit_js_matrix.attrs
    order = (
        "Personas are ordered by average-linkage clustering of JS, whose tree stands beside the rows: two groups are "
        "joined at the mean JS between them."
    )
    stair = "A persona is named where its row ends and its column begins."
    if name == "js_heatmap":
        return (
            "Jensen–Shannon divergence (JS, in nats: 0 for equal distributions, ln 2 ≈ 0.693 at most) between two "
            "personas’ next-token distributions on the same response, averaged over its tokens, then equally over the "
            f"responses of {averaged_over(logit_js_matrix)} to {attrs['questions']} questions. {order} {stair}"
        )
    if name == "persona_map":
        return (
            "Personas as points whose distances are near √JS (classical scaling of the JS matrix; √JS is a metric), JS "
            f"over the responses of {averaged_over(logit_js_matrix)}. Percentages: what each axis keeps of the squared "
            "distances. Ellipses: where 95 % of a point lies when the questions are resampled, each map turned onto "
            "this one. Directions mean nothing by themselves."
        )
    if name.startswith(_COSINES):
        population = spoken(name.removeprefix(_COSINES))
        return (
            "Cosine between persona centroids: the hidden state of the prompt’s last token after decoder block N "
            f"(layer N), averaged over questions, less the mean centroid of the centring population “{population}”. "
            f"Order and tree as for JS, ends of the scale −1 and 1. {stair}"
        )
    if name == "js_against_cosine":
        return (
            f"JS over the responses of {averaged_over(logit_js_matrix)} against the cosine of the two centroids, "
            "one point a pair, one panel "
            f"a layer. Bars: {interval_text(logit_js_matrix)}. "
            "Letters name the most divergent and the most similar pairs. Pairs share personas, so they are not "
            "independent: what is said iid takes them for it, what is said dyadic does not."
        )
    if name == TOKENS:
        return (
            "JS (nats) at every token of one response, between the next-token distributions of the persona that wrote "
            "it and of the other persona of the most divergent pair. Of both personas’ responses to every question it "
            "is the one with the highest mean JS: an extreme, not an example. Below, its lines with the most JS, a bar "
            "over every token."
        )
    if name in LEAKAGE_FIGURES:
        return f"{_LEAKAGE[name]}{_how_trained(leakage_table)}"
    return spoken(name)


def _how_trained(leakage_table: pd.DataFrame | None) -> str:
    if leakage_table is None:
        return ""
    return f" Recipe: {recipe_names(leakage_table)}; {base_text(leakage_table)}."


def averaged_over(logit_js_matrix: xr.Dataset) -> str:
    """Whose responses the JS that is shown is averaged over, in words."""
    return _RESPONSES_OF[str(logit_js_matrix.attrs["generators_shown"])]


def interval_text(logit_js_matrix: xr.Dataset) -> str:
    """How the intervals of JS were made, in words."""
    attrs = logit_js_matrix.attrs
    if attrs["generators_shown"] == "all_estimated":
        return f"{float(attrs['level']):.0%} intervals, jackknife over landmarks and over questions"
    return f"{float(attrs['level']):.0%} intervals, bootstrap over questions, {int(attrs['resamples'])} resamples"
