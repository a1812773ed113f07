"""The standard figures of a checkpoint, by name."""

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from persona_assets.presentation.figures.captions import COSINES, TOKENS
from persona_assets.presentation.figures.coupling import coupling_known, coupling_panels
from persona_assets.presentation.figures.heatmaps import cosine_heatmaps, js_heatmap
from persona_assets.presentation.figures.influence import influence_figure, left_out
from persona_assets.presentation.figures.layer_profile import layer_profile, profile
from persona_assets.presentation.figures.leakage_by_source import leakage_by_source
from persona_assets.presentation.figures.leakage_heatmap import leakage_heatmap
from persona_assets.presentation.figures.leakage_scatter import leakage_against_predictors
from persona_assets.presentation.figures.map import map_of_personas
from persona_assets.presentation.figures.reliability import reliabilities_of, reliability_figure
from persona_assets.presentation.figures.scatter import js_against_cosine
from persona_assets.presentation.figures.specification import specification_curve, specifications_of
from persona_assets.presentation.figures.token_js import js_along_response
from persona_assets.presentation.figures.variance_components import components_of, variance_components_figure
from persona_assets.presentation.layout.ordering import Tree, persona_tree
from persona_assets.presentation.layout.outcomes import SAMPLED, chosen_outcome, measured_outcomes
from persona_assets.presentation.layout.pairs import cosine_columns
from persona_assets.presentation.layout.style import TWO_COLUMNS
from persona_assets.presentation.summaries.extremes import complete
from persona_assets.presentation.summaries.statements import verdict_outcome


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
        `js_along_response` and, if leakage was measured, the names in `LEAKAGE_FIGURES`, which show the outcome of the
        statements, and `leakage_against_predictors_<outcome>` and `leakage_heatmap_<outcome>` for other outcomes by
        log-probability. The scatter needs a cosine in the pair table, the map at least three personas, and JS along a
        response JS per token; they are left out otherwise.
    """
    tree = persona_tree(logit_js_matrix)
    figures = {"js_heatmap": js_heatmap(logit_js_matrix, width)}
    if len(tree.order) > 2 and complete(logit_js_matrix):
        figures["persona_map"] = map_of_personas(logit_js_matrix, baseline)
    for population in centroid_cosine["population"].values:
        figures[f"{COSINES}{population}"] = cosine_heatmaps(centroid_cosine, tree, str(population), width)
    if cosine_columns(pair_table):
        figures["js_against_cosine"] = js_against_cosine(pair_table, baseline, partial_correlations, width)
    if tokens is not None and tokens["js"].notna().any():
        figures[TOKENS] = js_along_response(tokens, width)
    if leakage_table is not None:
        figures |= _of_outcomes(pair_table, leakage_table, tree, partial_correlations, primary_cosine, trends, width)
    if partial_correlations is not None:
        if len(reliabilities_of(partial_correlations)):
            figures["reliability"] = reliability_figure(partial_correlations, width)
        if components_of(partial_correlations)["share"].notna().any():
            figures["variance_components"] = variance_components_figure(partial_correlations)
        if profile(partial_correlations)["layer"].notna().any():
            figures["layer_profile"] = layer_profile(partial_correlations, primary_cosine)
        if source_rates is not None and baseline and coupling_known(source_rates):
            figures["coupling"] = coupling_panels(source_rates, baseline, partial_correlations, primary_cosine, width)
        if len(specifications_of(partial_correlations)):
            figures["specification_curve"] = specification_curve(partial_correlations, width)
        if left_out(partial_correlations)["strength"].notna().any():
            figures["influence"] = influence_figure(partial_correlations)
    return figures


def _of_outcomes(
    pair_table: pd.DataFrame,
    leakage_table: pd.DataFrame,
    tree: Tree,
    statements: pd.DataFrame | None,
    primary_cosine: str,
    trends: pd.DataFrame | None,
    width: float,
) -> dict[str, Figure]:
    """Draw leakage by the outcome of the statements, and by the other ones that come from log-probabilities."""
    named = set(leakage_table["source"])
    sources = [persona for persona in tree.order if persona in named]
    cosines = [primary_cosine] if primary_cosine else None
    shown = chosen_outcome(pair_table, "" if statements is None else verdict_outcome(statements))
    figures = {
        "leakage_against_predictors": leakage_against_predictors(
            pair_table, sources, cosines, statements, trends, width, shown.column
        ),
        "leakage_by_source": leakage_by_source(pair_table, sources, primary_cosine or None, width, shown.column),
        "leakage_heatmap": leakage_heatmap(leakage_table, tree.order, width, shown.column),
    }
    for other in measured_outcomes(pair_table):
        if other not in (shown, SAMPLED):
            figures[f"leakage_against_predictors_{other.column}"] = leakage_against_predictors(
                pair_table, sources, cosines, statements, None, width, other.column
            )
            figures[f"leakage_heatmap_{other.column}"] = leakage_heatmap(leakage_table, tree.order, width, other.column)
    return figures
