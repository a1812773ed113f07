"""The figures of a checkpoint, by name, and what each of them shows."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from persona_assets.presentation.heatmaps import cosine_heatmaps, js_heatmap
from persona_assets.presentation.influence import influence_figure, left_out
from persona_assets.presentation.leakage_heatmap import base_text, leakage_heatmap, recipe_names
from persona_assets.presentation.leakage_scatter import DYADS_NOT_INDEPENDENT, leakage_against_predictors
from persona_assets.presentation.map import map_of_personas
from persona_assets.presentation.ordering import persona_order
from persona_assets.presentation.pairs import cosine_columns
from persona_assets.presentation.scatter import NOT_INDEPENDENT, js_against_cosine
from persona_assets.presentation.specification import specification_curve, specifications_of
from persona_assets.presentation.style import spoken

_COSINES = "cosine_heatmaps_"
LEAKAGE_FIGURES = ("leakage_against_predictors", "leakage_heatmap", "specification_curve", "influence")

_RESPONSES_OF = {
    "all": "every generator",
    "pair": "the two personas of the pair",
    "source": "the source, the persona that names the row",
    "target": "the target, the persona that names the column",
    "others": "every generator but the two personas of the pair",
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
        f"{_RATE} One point a dyad, against JS and against the cosine of the two centroids (the first centring "
        "population, at most three of its layers); colour and shape name the source, whose rate on itself stands in "
        f"the legend and is not plotted. Bars: Wilson 95 % intervals of found / total. {DYADS_NOT_INDEPENDENT}"
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
) -> dict[str, Figure]:
    """Every figure that the room draws, keyed `js_heatmap`, `persona_map`, `cosine_heatmaps_<population>`,
    `js_against_cosine`, and, where leakage was measured, `leakage_heatmap`, `leakage_against_predictors`,
    `specification_curve` and `influence`.

    Args:
        logit_js_matrix, centroid_cosine, pair_table: as `js_heatmap`, `cosine_heatmaps`, `js_against_cosine` take them.
        baseline: the persona whose pairs the scatter tells apart.
        leakage_table: as `leakage_heatmap` takes it; the pair table then holds leakage too.
        partial_correlations: the statements about leakage; figures of what they cannot answer are left out.

    Returns:
        The scatter is left out where the pair table holds no cosine, the map where there are two personas.
    """
    order = persona_order(logit_js_matrix)
    figures = {"js_heatmap": js_heatmap(logit_js_matrix)}
    if len(order) > 2:
        figures["persona_map"] = map_of_personas(logit_js_matrix, baseline)
    for population in centroid_cosine["population"].values:
        figures[f"{_COSINES}{population}"] = cosine_heatmaps(centroid_cosine, order, str(population))
    if cosine_columns(pair_table):
        figures["js_against_cosine"] = js_against_cosine(pair_table, baseline)
    if leakage_table is not None:
        named = set(leakage_table["source"])
        figures["leakage_heatmap"] = leakage_heatmap(leakage_table, order)
        figures["leakage_against_predictors"] = leakage_against_predictors(
            pair_table, [persona for persona in order if persona in named]
        )
    if partial_correlations is not None:
        if len(specifications_of(partial_correlations)):
            figures["specification_curve"] = specification_curve(partial_correlations)
        if left_out(partial_correlations)["strength"].notna().any():
            figures["influence"] = influence_figure(partial_correlations)
    return figures


def place_of(name: str) -> int:
    """Where a figure stands on a page: what the headline is about first, what is asked of it last."""
    kinds = ("js_heatmap", "persona_map", _COSINES, "js_against_cosine", *LEAKAGE_FIGURES)
    return next((place for place, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))


def caption(name: str, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None = None) -> str:
    """What the figure of that name shows, in full; a name that is not of `standard_figures` is only spoken.

    The recipe and the base rate of leakage are named where the leakage table is given.
    """
    attrs = logit_js_matrix.attrs
    order = "Personas are ordered by average-linkage clustering of JS."
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
            f"Order as for JS, ends of the scale −1 and 1. {stair}"
        )
    if name == "js_against_cosine":
        return (
            f"JS over the responses of {averaged_over(logit_js_matrix)} against the cosine of the two centroids, "
            "one point a pair, one panel "
            f"a layer. Bars: {interval_text(logit_js_matrix)}. "
            f"Letters name the most divergent and the most similar pairs. {NOT_INDEPENDENT}"
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
    return f"{float(attrs['level']):.0%} intervals, bootstrap over questions, {int(attrs['resamples'])} resamples"
