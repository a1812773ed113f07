"""Labels at the ends of lines, placed without overlap."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from persona_assets.presentation.layout.style import INK, wrapped

POINTS = 6.0
_LINE = 2.5  # millimetres
_BETWEEN = 0.9
_LEADER = 3.0
_GAP = 0.8

# Text, colour of its line, and end of the line in data coordinates.
EndLabel = tuple[str, str, tuple[float, float]]


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> NDArray[np.float64]:
    """Return label centres in one column, as close as possible to their wanted positions.

    Args:
        wanted: wanted centre of each label, in any unit of length.
        heights: heights of the labels, including the gap between two.
        low, high: ends of the column.

    Returns:
        Centres in the order given, without overlap and with the least squared displacement (isotonic regression of the
        labels' starts); between low and high unless the labels do not fit.
    """
    order = np.argsort(wanted, kind="stable")
    tall = np.asarray(heights, dtype=np.float64)[order]
    stacked = np.cumsum(tall) - tall / 2
    start = isotonic_regression(np.asarray(wanted, dtype=np.float64)[order] - stacked).x
    centres = np.empty(len(order))
    centres[order] = np.clip(start, low, max(low, high - float(tall.sum()))) + stacked
    return centres


def write_end_labels(axes: Axes, size: tuple[float, float], labels: Sequence[EndLabel], room: float) -> None:
    """Write labels to the right of the axes, each connected to the end of its line.

    Args:
        axes: axes with final limits.
        size: size of the axes, in millimetres.
        labels: text, colour and end of each line.
        room: millimetres available to the right of the axes.
    """
    if not labels:
        return
    width, height = size
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    ends = [((x - left) / (right - left), (y - bottom) / (top - bottom)) for _, _, (x, y) in labels]
    texts = [wrapped(text, POINTS, room - _LEADER - _GAP) for text, _, _ in labels]
    heights = [len(lines) * _LINE + _BETWEEN for lines in texts]
    centres = spread([up * height for _, up in ends], heights, -_LINE, height + _LINE)
    for lines, (_, colour, _), (across, up), centre in zip(texts, labels, ends, centres, strict=True):
        elbow, stop = 1 + 0.4 / width, 1 + _LEADER / width
        level = centre / height
        axes.plot(
            [across, elbow, stop],
            [up, up, level],
            transform=axes.transAxes,
            color=colour,
            lw=0.6,
            clip_on=False,
            zorder=1,
        )
        axes.text(
            stop + _GAP / width,
            level,
            "\n".join(lines),
            transform=axes.transAxes,
            size=POINTS,
            color=INK,
            va="center",
            linespacing=1.15,
        )
