"""Variance components of an outcome: how much of its variance is due to sources, targets, seeds, questions, replies."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from persona_assets.presentation.layout.correlation import Floats
from persona_assets.presentation.layout.outcomes import OUTCOMES
from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    add_axes,
    add_text,
    house_style,
    new_figure,
    text_width,
    wrapped,
)

# Millimetres and points.
_ROW, _POINTS, _BELOW, _VALUES = 4.0, 6.5, 9.0, 26.0
_PREFIX = "variance component: "
_NAMES = {
    "source × target": "source × target (dyad)",
    "seed": "training seed",
    "seed × target": "training seed × target",
    "residual": "rest",
}


def components_of(statements: pd.DataFrame) -> pd.DataFrame:
    """Return the variance components: columns component, variance (NaN if it cannot be told apart), share, outcome.

    Args:
        statements: as returned by `statistics.infer`.
    """
    rows = statements[statements["quantity"].str.startswith(_PREFIX)]
    variance = rows["estimate"].to_numpy(dtype=np.float64)
    total = np.nansum(variance)
    return pd.DataFrame(
        {
            "component": rows["quantity"].str.removeprefix(_PREFIX).to_numpy(),
            "variance": variance,
            "share": variance / total if total > 0 else np.full(len(rows), np.nan),
            "outcome": rows["outcome"].to_numpy(),
        }
    )


def variance_components_figure(statements: pd.DataFrame) -> Figure:
    """Draw the share of each variance component as a bar, with its standard deviation in the outcome's unit.

    Args:
        statements: as returned by `statistics.infer`.

    Raises:
        ValueError: no component has an estimate, or all are 0.
    """
    table = components_of(statements)
    if not table["share"].notna().any():
        raise ValueError("statements: no variance component has an estimate; expected at least one above 0")
    outcome = OUTCOMES.get(str(table["outcome"].iloc[0]))
    unit = "" if outcome is None or outcome.is_rate else " nats"
    names = [_NAMES.get(str(name), str(name)) for name in table["component"]]
    left = MARGIN + max(text_width(name, _POINTS) for name in names) + 2.0
    width = ONE_COLUMN - left - _VALUES
    said = f"{outcome.name if outcome else 'leakage'} of single replies · numbers: share, and standard deviation"
    subtitle = wrapped(said, KEY_POINTS, ONE_COLUMN - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    with house_style():
        figure = new_figure(ONE_COLUMN, top + len(table) * _ROW + _BELOW)
        add_text(figure, MARGIN, MARGIN, "Where the variance of leakage comes from", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        axes = add_axes(figure, left, top, width, len(table) * _ROW)
        share: Floats = table["share"].to_numpy(dtype=np.float64)
        axes.barh(np.arange(len(table)) + 0.5, 100 * np.nan_to_num(share), height=0.62, color=BLUE)
        for place, (name, value, part) in enumerate(zip(names, table["variance"], share, strict=True)):
            middle = top + (place + 0.5) * _ROW
            add_text(figure, left - 2.0, middle, name, size=_POINTS, color=INK, ha="right", va="center_baseline")
            known = np.isfinite(value)
            text = f"{100 * part:.0f} %   {np.sqrt(value):.2g}{unit}" if known else "not separable here"
            colour = INK if known else MUTED
            add_text(figure, left + width + 1.5, middle, text, size=KEY_POINTS, color=colour, va="center_baseline")
        axes.set_ylim(len(table), 0)
        axes.set_xlim(0, max(10.0, 103 * float(np.nanmax(share))))
        axes.tick_params(left=False, labelleft=False)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("share of the variance (%)")
    return figure
