"""Scatter panels that stand side by side: where they are, what is written above them, how far their axes reach."""

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

# What stands above a panel, below its title: a line of text, or a word and what belongs to it.
Said = Sequence[str | tuple[str, str]]


class Grid(NamedTuple):
    """Panels of one size in rows.

    Attributes:
        width: of the figure, in millimetres.
        columns: panels a row.
        top: where the first row begins.
        lines: how many lines of text stand above a panel, its title not counted.
        height: of a panel's axes.
        left: millimetres to the left of the first column, for its axis.
        gap: between two columns.
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
        """How wide a panel's axes are."""
        return (self.width - self.left - RIGHT - (self.columns - 1) * self.gap) / self.columns

    @property
    def head(self) -> float:
        """How high the text above a panel is."""
        return PANEL_TITLE + self.lines * PANEL_LINE

    def place(self, index: int) -> tuple[float, float]:
        """Upper left corner of a panel, its text included."""
        row, column = divmod(index, self.columns)
        return self.left + column * (self.panel + self.gap), self.below(row)

    def below(self, rows: int) -> float:
        """Where so many rows end."""
        return self.top + rows * (self.head + self.height + X_AXIS)

    def rows(self, panels: int) -> int:
        """How many rows so many panels fill."""
        return -(-panels // self.columns)


def add_panel(figure: Figure, grid: Grid, index: int, title: str, said: Said, x: Floats) -> Axes:
    """Empty axes that reach over x, under their title and what is said of them."""
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
    """Quiet lines of text, one below another, from the left margin."""
    for number, line in enumerate(lines):
        add_text(figure, MARGIN, top + number * LINE, line, size=points, color=MUTED)


def padded(x: Floats, share: float = 0.07) -> tuple[float, float]:
    """Limits that leave a share of the range free on either side."""
    shown = x[np.isfinite(x)]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    margin = share * (high - low) or 0.1
    return low - margin, high + margin
