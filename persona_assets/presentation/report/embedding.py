"""Figures embedded in the report: minified SVG, width, alternative text and caption."""

import re
from typing import Any

import pandas as pd
import xarray as xr

from persona_assets.presentation.figures.captions import caption
from persona_assets.presentation.figures.leakage_captions import is_leakage_figure, leakage_figure
from persona_assets.presentation.layout.image_files import data_url
from persona_assets.presentation.layout.style import display_name
from persona_assets.presentation.summaries.extremes import js_extremes

_WIDTH = re.compile(rb'<svg[^>]* width="([0-9.]+)pt"')
_COORDINATES = re.compile(r'( (?:d|points|x|y|x1|x2|y1|y2)=")([^"]*)"')
_DIGITS = re.compile(r"-?\d+\.\d{3,}")
_UNSEEN = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>", re.DOTALL)


def embed_figure(
    name: str, svg: bytes, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None, outcome: str = ""
) -> dict[str, Any]:
    """Return the template variables of a figure.

    Args:
        outcome: as in `caption`.

    Raises:
        ValueError: the SVG was not written by `to_svg`; the message names the figure.
    """
    width = _WIDTH.search(svg)
    if width is None:
        raise ValueError(f"figure {name}: its SVG has no width in points; expected the output of `to_svg`")
    return {
        "id": name,
        "name": display_name(name),
        "url": data_url(minify_svg(svg), "image/svg+xml"),
        "alt": _alt_text(name, logit_js_matrix),
        "caption": caption(name, logit_js_matrix, leakage_table, outcome),
        "leakage": is_leakage_figure(name),
        "inches": float(width[1]) / 72,
    }


def minify_svg(svg: bytes) -> bytes:
    """Minify an SVG: coordinates to a hundredth of a point, no metadata, no whitespace between tags."""
    text = _COORDINATES.sub(lambda match: f'{match[1]}{_shortened(match[2])}"', svg.decode())
    return re.sub(r">\s+<", "><", _UNSEEN.sub("", text)).strip().encode()


def _shortened(coordinates: str) -> str:
    return _DIGITS.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), " ".join(coordinates.split()))


def _alt_text(name: str, logit_js_matrix: xr.Dataset) -> str:
    """Return the alternative text of a figure: its kind, its extremes, and where to find its numbers."""
    kind = display_name(name)
    if name == "js_heatmap":
        ends = "; ".join(f"{end}: {pair}" for end, pair in js_extremes(logit_js_matrix).items())
        return f"{kind}. {ends}. The table “All pairs” lists every number."
    if name.startswith(("cosine_heatmaps_", "js_against_cosine", "persona_map")):
        return f"{kind}. The table “All pairs” lists the numbers."
    if leakage_figure(name)[0] in ("leakage_heatmap", "leakage_against_predictors"):
        return f"{kind}. The table “All dyads” lists the numbers."
    return f"{kind}. The caption describes it, and the report's tables list the numbers."
