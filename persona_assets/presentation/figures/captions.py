"""Names of the standard figures, in the report's order, and their captions."""

import pandas as pd
import xarray as xr

from persona_assets.presentation.figures.leakage_captions import LEAKAGE_FIGURES, is_leakage_figure, leakage_caption
from persona_assets.presentation.layout.style import display_name

COSINES, TOKENS = "cosine_heatmaps_", "js_along_response"

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


def position_of(name: str) -> int:
    """Return the position of a figure on the page; unknown figures come last."""
    kinds = ("js_heatmap", "persona_map", COSINES, "js_against_cosine", TOKENS, *LEAKAGE_FIGURES)
    return next((place for place, kind in enumerate(kinds) if name.startswith(kind)), len(kinds))


def caption(
    name: str, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None = None, outcome: str = ""
) -> str:
    """Return the caption of a figure of `standard_figures`; for other names, return the name in words.

    Args:
        leakage_table: if given, captions of leakage figures include the recipe and the outcome before training.
        outcome: the outcome that figures without one in their name show, by its column in the pair table; by default
            the first one that the leakage table has.
    """
    if is_leakage_figure(name):
        return leakage_caption(name, leakage_table, outcome)
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
    if name.startswith(COSINES):
        population = display_name(name.removeprefix(COSINES))
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
    return display_name(name)


def averaged_over(logit_js_matrix: xr.Dataset) -> str:
    """Describe whose responses the shown JS is averaged over."""
    return _RESPONSES_OF[str(logit_js_matrix.attrs["generators_shown"])]


def interval_text(logit_js_matrix: xr.Dataset) -> str:
    """Describe how the intervals of JS were made."""
    attrs = logit_js_matrix.attrs
    if attrs["generators_shown"] == "all_estimated":
        return f"{float(attrs['level']):.0%} intervals, jackknife over landmarks and over questions"
    return f"{float(attrs['level']):.0%} intervals, bootstrap over questions, {int(attrs['resamples'])} resamples"
