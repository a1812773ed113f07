"""The figures of a checkpoint, by name, and what each of them shows."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from persona_assets.presentation.heatmaps import cosine_heatmaps, js_heatmap
from persona_assets.presentation.ordering import persona_order
from persona_assets.presentation.pairs import cosine_columns
from persona_assets.presentation.scatter import NOT_INDEPENDENT, js_against_cosine
from persona_assets.presentation.style import spoken

_COSINES = "cosine_heatmaps_"

_RESPONSES_OF = {
    "all": "every generator",
    "pair": "the two personas of the pair",
    "source": "the source, the persona that names the row",
    "target": "the target, the persona that names the column",
    "others": "every generator but the two personas of the pair",
}


def standard_figures(
    logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset, pair_table: pd.DataFrame, baseline: str | None = None
) -> dict[str, Figure]:
    """Every figure that the room draws, keyed `js_heatmap`, `cosine_heatmaps_<population>`, `js_against_cosine`.

    Args:
        logit_js_matrix, centroid_cosine, pair_table: as `js_heatmap`, `cosine_heatmaps`, `js_against_cosine` take them.
        baseline: the persona whose pairs the scatter tells apart.

    Returns:
        The scatter is left out where the pair table holds no cosine.
    """
    order = persona_order(logit_js_matrix)
    figures = {"js_heatmap": js_heatmap(logit_js_matrix)}
    for population in centroid_cosine["population"].values:
        figures[f"{_COSINES}{population}"] = cosine_heatmaps(centroid_cosine, order, str(population))
    if cosine_columns(pair_table):
        figures["js_against_cosine"] = js_against_cosine(pair_table, baseline)
    return figures


def caption(name: str, logit_js_matrix: xr.Dataset) -> str:
    """What the figure of that name shows, in full; a name that is not of `standard_figures` is only spoken."""
    attrs = logit_js_matrix.attrs
    order = "Personas are ordered by average-linkage clustering of JS."
    stair = "A persona is named where its row ends and its column begins."
    if name == "js_heatmap":
        return (
            "Jensen–Shannon divergence (JS, in nats: 0 for equal distributions, ln 2 ≈ 0.693 at most) between two "
            "personas’ next-token distributions on the same response, averaged over its tokens, then equally over the "
            f"responses of {averaged_over(logit_js_matrix)} to {attrs['questions']} questions. {order} {stair}"
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
    return spoken(name)


def averaged_over(logit_js_matrix: xr.Dataset) -> str:
    """Whose responses the JS that is shown is averaged over, in words."""
    return _RESPONSES_OF[str(logit_js_matrix.attrs["generators_shown"])]


def interval_text(logit_js_matrix: xr.Dataset) -> str:
    """How the intervals of JS were made, in words."""
    attrs = logit_js_matrix.attrs
    return f"{float(attrs['level']):.0%} intervals, bootstrap over questions, {int(attrs['resamples'])} resamples"
