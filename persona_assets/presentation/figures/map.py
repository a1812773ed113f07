"""Map of the personas: the closer two personas are, the more similar their next-token distributions."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from persona_assets.presentation.figures.scaling import persona_map
from persona_assets.presentation.layout.labels import write_labels
from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    ONE_COLUMN,
    ORANGE,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    wrapped,
)

# Millimetres and points.
_LEFT, _BELOW, _TALLEST = 12.0, 9.0, 80.0
_NAME_POINTS = 6.5
# Squared radius of the ellipses: the 95 % quantile of χ² with two degrees of freedom.
_COVERED = 5.991


def map_of_personas(logit_js_matrix: xr.Dataset, baseline: str | None = None, width: float = ONE_COLUMN) -> Figure:
    """Draw every persona as a point (`scaling.persona_map`), with ellipses over resampled questions.

    Args:
        logit_js_matrix: as in `scaling.persona_map`.
        baseline: the persona to draw in another colour and shape.
        width: width of the figure, in millimetres; larger with more than 30 personas.

    Raises:
        ValueError: as in `scaling.persona_map`.
    """
    names = [str(name) for name in logit_js_matrix["persona"].values]
    points, spreads, kept = persona_map(logit_js_matrix)
    reach = np.sqrt(_COVERED * np.nan_to_num(spreads.diagonal(axis1=1, axis2=2)))
    # The figure grows with the number of names beyond 30.
    crowd = max(1.0, (len(names) / 30) ** 0.5)
    width *= crowd
    across = width - _LEFT - MARGIN
    low, high = (points - reach).min(axis=0), (points + reach).max(axis=0)
    # Both axes have the same scale; the factors leave space for names.
    scale = across / (1.42 * (high[0] - low[0]) or 1.0)
    height = min(_TALLEST * width / ONE_COLUMN, max(30.0, 1.25 * scale * (high[1] - low[1])))
    scale = min(scale, height / (1.25 * (high[1] - low[1]) or 1.0))
    middle = (low + high) / 2
    about = f"distances are near √JS; the plane keeps {kept.sum():.0%} of their squares"
    about += " · ellipses: 95 % over resampled questions" if np.isfinite(spreads).all() else ""
    subtitle = wrapped(about, KEY_POINTS, width - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 1.5
    with house_style():
        figure = new_figure(width, top + height + _BELOW)
        add_text(figure, MARGIN, MARGIN, "A map of the personas", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        axes = add_axes(figure, _LEFT, top, across, height)
        half = np.array([across, height]) / scale / 2
        axes.set(xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] - half[1], middle[1] + half[1]))
        axes.set_xlabel(f"first axis (√nats), {kept[0]:.0%} of the squared distances")
        axes.set_ylabel(f"second axis (√nats), {kept[1]:.0%}")
        axes.locator_params(nbins=5)
        for name, point, spread in zip(names, points, spreads, strict=True):
            colour, marker = (ORANGE, "D") if name == baseline else (BLUE, "o")
            if np.isfinite(spread).all():
                axes.add_patch(_ellipse(point, spread, colour, 0.15 / crowd**2))
            axes.plot(*point, marker=marker, markersize=3.2, color=colour, linewidth=0, zorder=3)
        write_labels(
            axes, (across, height), points, [display_name(name) for name in names], points, _NAME_POINTS / crowd**0.5
        )
    return figure


def _ellipse(point: NDArray[np.float64], spread: NDArray[np.float64], colour: str, alpha: float) -> Ellipse:
    values, vectors = np.linalg.eigh(spread)
    across, up = 2 * np.sqrt(_COVERED * np.maximum(values[::-1], 0.0))
    angle = float(np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1])))
    return Ellipse(tuple(point), across, up, angle=angle, facecolor=colour, alpha=alpha, linewidth=0, zorder=1)
