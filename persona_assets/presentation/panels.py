"""Scatter panels that stand side by side: where they are, what is written above them, how far their axes reach."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.correlation import Floats, rho_text
from persona_assets.presentation.style import INK, MUTED, add_axes, add_text

# Millimetres and points.
MARGIN, LEFT, RIGHT = 2.0, 12.0, 3.0
GAP, PANEL_TITLE, PANEL_HEIGHT, X_AXIS = 4.0, 7.5, 46.0, 11.0
TITLE = 4.2
LINE, KEY_POINTS, LETTER_POINTS = 3.1, 6.0, 6.5
ROW_HEIGHT = PANEL_TITLE + PANEL_HEIGHT + X_AXIS


def panel_width(width: float, columns: int) -> float:
    """How wide each of `columns` panels is in a figure of that width."""
    return (width - LEFT - RIGHT - (columns - 1) * GAP) / columns


def panel_place(header: float, width: float, row: int, column: int) -> tuple[float, float]:
    """The upper left corner of a panel of that width, its title included."""
    return LEFT + column * (width + GAP), header + row * ROW_HEIGHT


def add_panel(figure: Figure, place: tuple[float, float], width: float, title: str, x: Floats, y: Floats) -> Axes:
    """Empty axes that reach over x, under their title and Spearman's ρ of x and y."""
    left, top = place
    axes = add_axes(figure, left, top + PANEL_TITLE, width, PANEL_HEIGHT)
    axes.set_xlim(*_padded(x))
    axes.locator_params(axis="x", nbins=4)
    add_text(figure, left, top, title, weight="bold", size=7, color=INK)
    add_text(figure, left, top + 3.4, rho_text(x, y), size=6.5, color=MUTED)
    return axes


def write_lines(figure: Figure, top: float, lines: list[str], points: float) -> None:
    """Quiet lines of text, one below another, from the left margin."""
    for number, line in enumerate(lines):
        add_text(figure, MARGIN, top + number * LINE, line, size=points, color=MUTED)


def _padded(x: Floats) -> tuple[float, float]:
    shown = x[np.isfinite(x)]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    margin = 0.07 * (high - low) or 0.1
    return low - margin, high + margin
