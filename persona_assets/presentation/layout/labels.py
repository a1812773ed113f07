"""Labels next to points, placed in millimetres by `placement`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from persona_assets.presentation.layout.correlation import Floats
from persona_assets.presentation.layout.placement import place_labels
from persona_assets.presentation.layout.style import INK, MM_PER_POINT, MUTED, text_width

_LINE = 1.12  # height of a line of text, relative to its font size


def write_labels(
    axes: Axes,
    size: tuple[float, float],
    at: Floats,
    texts: Sequence[str],
    points: Floats,
    font: float,
    clear: float = 1.3,
    weight: str = "normal",
    backed: bool = False,
) -> None:
    """Write a text next to each position, with a connecting line if it is farther away.

    Args:
        axes: axes with final limits.
        size: size of the axes, in millimetres.
        at: (n, 2), the labelled positions, in data coordinates.
        points: (m, 2), points that must not be covered; may include the labelled positions.
        font: font size, in points.
        clear: minimum distance of a text from the centre of every point, in millimetres.
        weight: font weight.
        backed: whether texts have a white background that hides what is below, such as bars.
    """
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    scale = np.array([size[0] / (right - left), size[1] / (top - bottom)])
    places, others = ((of - (left, bottom)) * scale for of in (np.asarray(at), np.asarray(points)))
    places = places.reshape(-1, 2)
    others = others.reshape(-1, 2)
    others = others[np.isfinite(others).all(axis=1)]
    twice = (np.abs(others[:, None] - places) < 1e-6).all(axis=-1).any(axis=1)
    crowd = [(float(x), float(y)) for x, y in [*places, *others[~twice]]]
    back = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"} if backed else None
    boxes = [(text_width(text, font, weight) + 0.3, font * _LINE * MM_PER_POINT) for text in texts]
    found = place_labels(crowd, range(len(texts)), boxes, size, clear)
    for text, point, place in zip(texts, crowd, found, strict=False):
        if place.tie is not None:
            ends = np.array([point, place.tie]) / size
            axes.plot(*ends.T, transform=axes.transAxes, color=MUTED, linewidth=0.4, zorder=1.5)
        axes.text(
            place.centre[0] / size[0],
            place.centre[1] / size[1],
            text,
            transform=axes.transAxes,
            size=font,
            color=INK,
            ha="center",
            va="center",
            weight=weight,
            bbox=back,
            zorder=4,
        )
