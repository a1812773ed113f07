"""Tables and labelled arrays in, figures and pages out. Imports no Dagster and no other room."""

from persona_assets.presentation.drift.figure import checkpoint_drift_figure
from persona_assets.presentation.drift.headline import drift_headline
from persona_assets.presentation.figures.coupling import coupling_panels
from persona_assets.presentation.figures.heatmaps import cosine_heatmaps, js_heatmap
from persona_assets.presentation.figures.influence import influence_figure
from persona_assets.presentation.figures.layer_profile import layer_profile
from persona_assets.presentation.figures.leakage_by_source import leakage_by_source
from persona_assets.presentation.figures.leakage_heatmap import leakage_heatmap
from persona_assets.presentation.figures.leakage_scatter import leakage_against_predictors
from persona_assets.presentation.figures.loss_curve import loss_curve
from persona_assets.presentation.figures.map import map_of_personas
from persona_assets.presentation.figures.scatter import js_against_cosine
from persona_assets.presentation.figures.specification import specification_curve
from persona_assets.presentation.figures.standard import caption, standard_figures
from persona_assets.presentation.figures.token_js import js_along_response
from persona_assets.presentation.layout.image_files import data_url, inline_markdown, to_pdf, to_png, to_svg
from persona_assets.presentation.layout.ordering import Tree, persona_order, persona_tree
from persona_assets.presentation.layout.style import ONE_COLUMN, TWO_COLUMNS, house_style, spoken
from persona_assets.presentation.report.files import report_files
from persona_assets.presentation.report.links import Link
from persona_assets.presentation.report.markdown import render_markdown
from persona_assets.presentation.report.page import render_report
from persona_assets.presentation.report.text import plain
from persona_assets.presentation.summaries.extremes import cosine_extremes, js_extremes, js_range
from persona_assets.presentation.summaries.headline import Headline, Interval, extreme_pairs, headline
from persona_assets.presentation.summaries.leakage_headline import LeakageHeadline, leakage_headline
from persona_assets.presentation.summaries.statements import rules_markdown, statements_markdown

__all__ = [
    "ONE_COLUMN",
    "TWO_COLUMNS",
    "Headline",
    "Interval",
    "LeakageHeadline",
    "Link",
    "Tree",
    "caption",
    "checkpoint_drift_figure",
    "cosine_extremes",
    "cosine_heatmaps",
    "coupling_panels",
    "data_url",
    "drift_headline",
    "extreme_pairs",
    "headline",
    "house_style",
    "influence_figure",
    "inline_markdown",
    "js_against_cosine",
    "js_along_response",
    "js_extremes",
    "js_heatmap",
    "js_range",
    "layer_profile",
    "leakage_against_predictors",
    "leakage_by_source",
    "leakage_headline",
    "leakage_heatmap",
    "loss_curve",
    "map_of_personas",
    "persona_order",
    "persona_tree",
    "plain",
    "render_markdown",
    "render_report",
    "report_files",
    "rules_markdown",
    "specification_curve",
    "spoken",
    "standard_figures",
    "statements_markdown",
    "to_pdf",
    "to_png",
    "to_svg",
]
