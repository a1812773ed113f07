"""Grids of scatter panels: positions, text above each panel, and axis limits."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.layout.correlation import Floats
from persona_assets.presentation.layout.style import INK, MUTED, add_axes, add_text

# Millimetres and points.
MARGIN, LEFT, RIGHT = 2.0, 13.0, 3.0
GAP, PANEL_TITLE, PANEL_LINE, PANEL_HEIGHT, X_AXIS = 4.0, 4.6, 2.8, 46.0, 11.0
TITLE = 4.2
LINE, KEY_POINTS, LETTER_POINTS = 3.1, 6.0, 6.5
_VIEW = 8.5

# Text between a panel's title and its axes: whole lines, or pairs of a view's name and its text.
Said = Sequence[str | tuple[str, str]]


class Grid(NamedTuple):
    """Rows of equally large panels; all lengths in millimetres.

    Attributes:
        width: width of the figure.
        columns: panels per row.
        top: top of the first row.
        lines: lines of text above a panel, without its title.
        height: height of a panel's axes.
        left: space to the left of the first column, for its axis.
        gap: space between two columns.
    """

    width: float
    columns: int
    top: float
    lines: int = 1
    height: float = PANEL_HEIGHT
    left: float = LEFT
    gap: float = GAP

    @property
    def panel(self) -> float:
        """Width of a panel's axes."""
        return (self.width - self.left - RIGHT - (self.columns - 1) * self.gap) / self.columns

    @property
    def head(self) -> float:
        """Height of the text above a panel."""
        return PANEL_TITLE + self.lines * PANEL_LINE

    def place(self, index: int) -> tuple[float, float]:
        """Return the upper left corner of a panel, including its text."""
        row, column = divmod(index, self.columns)
        return self.left + column * (self.panel + self.gap), self.below(row)

    def below(self, rows: int) -> float:
        """Return the bottom of the given number of rows."""
        return self.top + rows * (self.head + self.height + X_AXIS)

    def rows(self, panels: int) -> int:
        """Return how many rows the given number of panels fills."""
        return -(-panels // self.columns)


def add_panel(figure: Figure, grid: Grid, index: int, title: str, said: Said, x: Floats) -> Axes:
    """Add empty axes that cover the range of x, with a title and text above."""
    left, top = grid.place(index)
    axes = add_axes(figure, left, top + grid.head, grid.panel, grid.height)
    axes.set_xlim(*padded(x))
    axes.locator_params(axis="x", nbins=4)
    add_text(figure, left, top, title, weight="bold", size=7, color=INK)
    for number, line in enumerate(said):
        place = top + 3.5 + number * PANEL_LINE
        if isinstance(line, str):
            add_text(figure, left, place, line, size=6.5, color=INK)
        else:
            colour = INK if line[0] == "dyadic" else MUTED
            add_text(figure, left, place, line[0], size=KEY_POINTS, color=colour)
            add_text(figure, left + _VIEW, place, line[1], size=KEY_POINTS, color=colour)
    return axes


def write_lines(figure: Figure, top: float, lines: list[str], points: float) -> None:
    """Write muted lines of text below each other at the left margin."""
    for number, line in enumerate(lines):
        add_text(figure, MARGIN, top + number * LINE, line, size=points, color=MUTED)


def padded(x: Floats, share: float = 0.07) -> tuple[float, float]:
    """Return limits with a margin of `share` of the range on either side."""
    shown = x[np.isfinite(x)]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    margin = share * (high - low) or 0.1
    return low - margin, high + margin
