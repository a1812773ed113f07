from .drift.figure import checkpoint_drift_figure
from .drift.headline import drift_headline
from .figures.captions import caption
from .figures.coupling import coupling_panels
from .figures.follow_curve import follow_curve
from .figures.heatmaps import cosine_heatmaps, js_heatmap
from .figures.influence import influence_figure
from .figures.layer_profile import layer_profile
from .figures.leakage_by_source import leakage_by_source
from .figures.leakage_heatmap import leakage_heatmap
from .figures.leakage_scatter import leakage_against_predictors
from .figures.loss_curve import loss_curve
from .figures.map import map_of_personas
from .figures.reliability import reliability_figure
from .figures.scatter import js_against_cosine
from .figures.specification import specification_curve
from .figures.standard import standard_figures
from .figures.token_js import js_along_response
from .figures.variance_components import variance_components_figure
from .layout.image_files import data_url, inline_markdown, to_pdf, to_png, to_svg
from .layout.ordering import Tree, persona_order, persona_tree
from .layout.style import ONE_COLUMN, TWO_COLUMNS, display_name, house_style
from .report.files import report_files
from .report.links import Link
from .report.markdown import render_markdown
from .report.page import render_report
from .report.text import fenced, plain
from .summaries.extremes import cosine_extremes, js_extremes, js_range
from .summaries.headline import Headline, Interval, extreme_pairs, headline
from .summaries.leakage_headline import LeakageHeadline, leakage_headline
from .summaries.statements import rules_markdown, statements_markdown

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
    "display_name",
    "drift_headline",
    "extreme_pairs",
    "fenced",
    "follow_curve",
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
    "reliability_figure",
    "render_markdown",
    "render_report",
    "report_files",
    "rules_markdown",
    "specification_curve",
    "standard_figures",
    "statements_markdown",
    "to_pdf",
    "to_png",
    "to_svg",
    "variance_components_figure",
]
