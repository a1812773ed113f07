"""Figures within a page: SVG without what nobody sees, its size, and what is said instead of it."""

import re
from typing import Any

import pandas as pd
import xarray as xr

from persona_assets.presentation.figures.standard import LEAKAGE_FIGURES, caption
from persona_assets.presentation.layout.image_files import data_url
from persona_assets.presentation.layout.style import spoken
from persona_assets.presentation.summaries.extremes import js_extremes

_WIDTH = re.compile(rb'<svg[^>]* width="([0-9.]+)pt"')
_COORDINATES = re.compile(r'( (?:d|points|x|y|x1|x2|y1|y2)=")([^"]*)"')
_DIGITS = re.compile(r"-?\d+\.\d{3,}")
_UNSEEN = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>", re.DOTALL)


def embedded(name: str, svg: bytes, logit_js_matrix: xr.Dataset, leakage_table: pd.DataFrame | None) -> dict[str, Any]:
    """What a page's template asks of a figure.

    Raises:
        ValueError: the file is no SVG as `to_svg` writes it; names the figure.
    """
    width = _WIDTH.search(svg)
    if width is None:
        raise ValueError(f"figure {name}: no width in points in its SVG; expected a file as `to_svg` writes it")
    return {
        "id": name,
        "name": spoken(name),
        "url": data_url(lean(svg), "image/svg+xml"),
        "alt": _instead(name, logit_js_matrix),
        "caption": caption(name, logit_js_matrix, leakage_table),
        "leakage": name in LEAKAGE_FIGURES,
        "inches": float(width[1]) / 72,
    }


def lean(svg: bytes) -> bytes:
    """The same picture in fewer bytes: coordinates to a hundredth of a point, no metadata, no space between tags."""
    text = _COORDINATES.sub(lambda match: f'{match[1]}{_shortened(match[2])}"', svg.decode())
    return re.sub(r">\s+<", "><", _UNSEEN.sub("", text)).strip().encode()


def _shortened(coordinates: str) -> str:
    return _DIGITS.sub(lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), " ".join(coordinates.split()))


def _instead(name: str, logit_js_matrix: xr.Dataset) -> str:
    """What a reader who does not see the figure is told: its kind, its ends, and where its numbers stand."""
    kind = spoken(name)
    if name == "js_heatmap":
        ends = "; ".join(f"{end}: {pair}" for end, pair in js_extremes(logit_js_matrix).items())
        return f"{kind}. {ends}. The table “Every pair” holds every number."
    if name.startswith(("cosine_heatmaps_", "js_against_cosine", "persona_map")):
        return f"{kind}. The table “Every pair” holds the numbers."
    if name in ("leakage_heatmap", "leakage_against_predictors"):
        return f"{kind}. The table “Every dyad” holds the numbers."
    return f"{kind}. The caption says what it shows, and the report's tables hold the numbers."
