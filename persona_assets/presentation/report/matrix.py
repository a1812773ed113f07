"""The JS matrix as an HTML table whose cells link to the responses of the two personas."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps

from persona_assets.presentation.layout.ordering import persona_order

_COLOURS = "YlGnBu"  # as in the heatmap
# Relative luminance (WCAG 2) on which black and white text have the same contrast, above 4.5 to 1.
_MIDDLE = 0.179


def matrix_cells(logit_js_matrix: xr.Dataset, generators: str) -> dict[str, Any]:
    """Return the lower triangle, one row per persona and one cell per pair, in the order of the heatmap.

    Args:
        logit_js_matrix: `js`, `js_low`, `js_high` over (generators, persona, other), in nats, and `js_by_question`
            (question, persona, other) if available.
        generators: the subset to show; it must give each pair a single value.

    Returns:
        `names`, and `rows`: `name` and `cells`, each with `pair`, `js`, `js_low`, `js_high`, `thousandths` (of a nat,
        as text), `colour`, `ink` (CSS colours; their contrast is above 4.5) and `by_question` (thousandths, in the
        matrix's order of questions).
    """
    names = persona_order(logit_js_matrix)
    given = [str(name) for name in logit_js_matrix["persona"].values]
    shown = logit_js_matrix[["js", "js_low", "js_high"]].sel(generators=generators)
    largest = float(shown["js"].max())
    each = logit_js_matrix.get("js_by_question")
    rows = []
    for place, name in enumerate(names):
        cells = []
        for other in names[:place]:
            at = shown.sel(persona=name, other=other)
            js = float(at["js"])
            asked: list[float] = [] if each is None else each.sel(persona=name, other=other).to_numpy().tolist()
            cells.append(
                {
                    "pair": tuple(sorted((name, other), key=given.index)),
                    "js": js,
                    "js_low": float(at["js_low"]),
                    "js_high": float(at["js_high"]),
                    "thousandths": thousandths(js),
                    "by_question": [thousandths(value) for value in asked],
                    **_painted(js / largest if largest > 0 else 0.0),
                }
            )
        rows.append({"name": name, "cells": cells})
    return {"names": names, "rows": rows}


def thousandths(js: float) -> str:
    """Format a JS in thousandths of a nat, with one decimal below 10."""
    if np.isnan(js):
        return "–"
    return f"{1000 * js:.1f}" if 0 < js < 0.01 else f"{1000 * js:.0f}"


def _painted(share: float) -> dict[str, str]:
    red, green, blue, _ = colormaps[_COLOURS](0.0 if np.isnan(share) else share)
    channels = np.array([red, green, blue])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    dark = float(linear @ (0.2126, 0.7152, 0.0722)) < _MIDDLE
    colour = "#" + "".join(f"{round(255 * channel):02x}" for channel in (red, green, blue))
    return {"colour": colour, "ink": "#ffffff" if dark else "#000000"}
