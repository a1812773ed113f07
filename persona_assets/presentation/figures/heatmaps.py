"""Heatmaps of persona × persona matrices, with the tree that orders the personas.

A symmetric matrix is drawn as its lower triangle ("stair"): each name is written once, horizontally, where the
persona's row ends and its column begins. An asymmetric matrix is drawn in full.
"""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from persona_assets.presentation.figures.dendrogram import TREE_AXIS, draw_tree, room_for
from persona_assets.presentation.layout.ordering import Tree, persona_tree
from persona_assets.presentation.layout.style import (
    INK,
    MM_PER_POINT,
    MUTED,
    ONE_COLUMN,
    TWO_COLUMNS,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    readable_on,
    text_width,
)

# Millimetres and points.
_MARGIN = 2.0
_CELL = 8.0
_HEADER = 12.0
_NAME_POINTS = 6.5
_NAME_GAP = 1.2
_VALUE_POINTS = 6.0
_SMALLEST_POINTS = 4.5
_BAR_WIDTH, _BAR_TICKS, _BAR_GAP = 2.4, 9.0, 4.0
_BAR = _BAR_GAP + _BAR_WIDTH + _BAR_TICKS
_GUTTER = 4.0


def js_heatmap(logit_js_matrix: xr.Dataset, width: float = TWO_COLUMNS) -> Figure:
    """Draw JS between all pairs of personas in nats, next to the tree that orders them.

    Args:
        logit_js_matrix: `js` with dims (generators, persona, other), in nats; attrs `generators_shown` (the subset that
            is drawn) and `questions`.
        width: maximum width, in millimetres.
    """
    generators = str(logit_js_matrix.attrs["generators_shown"])
    tree = persona_tree(logit_js_matrix)
    order = tree.order
    values = _ordered(logit_js_matrix["js"].sel(generators=generators), order)
    largest = float(np.nanmax(values, initial=0.0))
    decimals = 3 if largest >= 0.05 else 4
    names_width, tree_width = _names_width(order), room_for(tree)
    stair = _is_symmetric(values)
    cells = len(order) - 1 if stair else len(order)
    beside = 0.0 if stair else _BAR
    cell = min(_CELL, (width - 2 * _MARGIN - tree_width - names_width - beside) / max(cells, 1))
    needed = max(cells * cell + names_width + beside, _bar_needs(len(order), cell, names_width))
    width = min(width, max(ONE_COLUMN, 2 * _MARGIN + tree_width + needed))
    above = 0.0 if stair else names_width
    below = _MARGIN + (TREE_AXIS if tree_width else 0.0)
    with house_style():
        figure = new_figure(width, _HEADER + above + len(order) * cell + below)
        add_text(
            figure, _MARGIN, _MARGIN, "Jensen–Shannon divergence between personas", weight="bold", size=8, color=INK
        )
        subtitle = f"generators: {generators} · {len(order)} personas × {logit_js_matrix.attrs['questions']} questions"
        subtitle += " · JS in nats" if stair else " · JS in nats; row: source, column: target"
        add_text(figure, _MARGIN, _MARGIN + 4.2, subtitle, size=6.5, color=MUTED)
        colours, norm = colormaps["YlGnBu"], Normalize(0.0, largest or 1.0)
        corner = (_MARGIN + tree_width, _HEADER)
        _matrix(figure, corner, values, order, cell, colours, norm, f"{{:.{decimals}f}}", stair)
        if tree_width:
            draw_tree(figure, (_MARGIN, _HEADER + above), cell, tree)
        _colour_bar(figure, width, _HEADER, len(order) * cell, colours, norm, "JS (nats)")
    return figure


def cosine_heatmaps(
    centroid_cosine: xr.Dataset, order: Sequence[str] | Tree, population: str, width: float = TWO_COLUMNS
) -> Figure:
    """Draw cosines between persona centroids, one panel per layer.

    Args:
        centroid_cosine: `cosine` with dims (population, layer, persona, other), in [−1, 1].
        order: the personas in the common order (`persona_order`); a `Tree` is also drawn next to every row of panels.
        population: the centring population to show, one of the coordinate's values.
        width: maximum width, in millimetres; with one column, panels are below each other.
    """
    tree = order if isinstance(order, Tree) else None
    names = tree.order if tree else [str(name) for name in order]
    cosine = centroid_cosine["cosine"].sel(population=population).dropna("layer", how="all")
    layers = [int(layer) for layer in cosine["layer"].values]
    columns = min(2 if width > ONE_COLUMN else 1, len(layers))
    names_width, tree_width = _names_width(names), room_for(tree)
    room = (width - 2 * _MARGIN - tree_width - (columns - 1) * _GUTTER) / columns
    cell = min(_CELL, (room - names_width) / max(len(names) - 1, 1))
    panel = max((len(names) - 1) * cell + names_width, _bar_needs(len(names), cell, names_width))
    narrowest = 2 * _MARGIN + tree_width + columns * panel + (columns - 1) * _GUTTER
    width = min(width, max(ONE_COLUMN, narrowest))
    step = (width - 2 * _MARGIN - tree_width + _GUTTER) / columns
    title_height = 5.0
    row_height, rows = title_height + len(names) * cell + 3.0, -(-len(layers) // columns)
    with house_style():
        figure = new_figure(width, _HEADER + rows * row_height + (TREE_AXIS - 1.0 if tree_width else 0.0))
        add_text(figure, _MARGIN, _MARGIN, "Cosine between persona centroids", weight="bold", size=8, color=INK)
        subtitle = f"centring population: {display_name(population)} · {len(names)} personas · one panel a layer"
        subtitle += " · tree: JS" if tree_width else ""
        add_text(figure, _MARGIN, _MARGIN + 4.2, subtitle, size=6.5, color=MUTED)
        colours, norm = colormaps["RdBu_r"], Normalize(-1.0, 1.0)
        for index, layer in enumerate(layers):
            row, column = divmod(index, columns)
            left, top = _MARGIN + tree_width + column * step, _HEADER + row * row_height
            add_text(figure, left, top, f"layer {layer}", weight="bold", size=7, color=INK)
            values = _ordered(cosine.sel(layer=layer), names)
            _matrix(figure, (left, top + title_height), values, names, cell, colours, norm, "{:.2f}", stair=True)
            if tree is not None and tree_width and column == 0:
                draw_tree(figure, (_MARGIN, top + title_height), cell, tree, scale=row == rows - 1)
        _colour_bar(figure, width, _HEADER + title_height, len(names) * cell, colours, norm, "cosine")
    return figure


def _ordered(matrix: xr.DataArray, order: Sequence[str]) -> NDArray[np.float64]:
    names = list(order)
    return np.asarray(matrix.transpose("persona", "other").sel(persona=names, other=names).to_numpy(), dtype=np.float64)


def _is_symmetric(values: NDArray[np.float64]) -> bool:
    return bool(np.allclose(values, values.T, rtol=1e-5, atol=1e-9, equal_nan=True))


def _names_width(names: Sequence[str]) -> float:
    return max(text_width(display_name(name), _NAME_POINTS) for name in names) + _NAME_GAP + 0.5


def _matrix(
    figure: Figure,
    corner: tuple[float, float],
    values: NDArray[np.float64],
    names: Sequence[str],
    cell: float,
    colours: Colormap,
    norm: Normalize,
    written: str,
    stair: bool,
) -> None:
    """Draw one matrix with its upper left corner at `corner`, in millimetres; the axes' unit is one cell."""
    size, names_width = len(names), _names_width(names)
    across = (size - 1 if stair else size) + names_width / cell
    above = 0.0 if stair else names_width / cell
    axes = add_axes(figure, *corner, across * cell, (above + size) * cell)
    axes.set(xlim=(0, across), ylim=(size, -above))
    axes.set_axis_off()
    outside = np.triu(np.ones((size, size), dtype=bool)) if stair else np.eye(size, dtype=bool)
    drawn = np.ma.masked_where(outside | ~np.isfinite(values), values)
    axes.pcolormesh(
        np.arange(size + 1),
        np.arange(size + 1),
        drawn,
        cmap=colours,
        norm=norm,
        edgecolors="white",
        linewidth=min(0.6, 0.08 * cell),
    )
    texts, points = _fitted([_number(written, value) for value in values[~outside]], cell)
    for text, (row, column) in zip(texts, np.argwhere(~outside), strict=True) if points >= _SMALLEST_POINTS else []:
        value = values[row, column]
        ink = readable_on(colours(norm(value))) if np.isfinite(value) else MUTED
        axes.text(column + 0.5, row + 0.5, text, size=points, color=ink, ha="center", va="center_baseline")
    name_points = min(_NAME_POINTS, 0.9 * cell / MM_PER_POINT)
    for place, name in enumerate(names):
        right = (place if stair else size) + _NAME_GAP / cell
        axes.text(right, place + 0.5, display_name(name), size=name_points, color=INK, ha="left", va="center_baseline")
        if not stair:
            centre = (place + 0.5, -_NAME_GAP / cell)
            axes.text(*centre, display_name(name), size=name_points, color=INK, ha="center", va="bottom", rotation=90)


def _bar_height(height: float) -> float:
    return max(12.0, min(30.0, 0.45 * height))


def _bar_needs(size: int, cell: float, names_width: float) -> float:
    """Return the width at which the colour bar of a stair does not overlap the names next to it."""
    lowest_row = min(size - 1, int(_bar_height(size * cell) / cell))
    return lowest_row * cell + names_width + _BAR


def _colour_bar(
    figure: Figure, width: float, top: float, height: float, colours: Colormap, norm: Normalize, label: str
) -> None:
    """Draw the colour bar at the upper right, which a stair leaves empty."""
    left = width - _MARGIN - _BAR_TICKS - _BAR_WIDTH
    axes = add_axes(figure, left, top + 3.0, _BAR_WIDTH, _bar_height(height) - 3.0)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, length=1.8, width=0.5)
    bar.ax.set_title(label, size=6.5, weight="normal", loc="left", color=INK, pad=5)


def _fitted(texts: list[str], cell: float) -> tuple[list[str], float]:
    """Return numbers and a font size that fit a cell; the leading 0 is dropped if that is necessary."""
    for shown in (texts, [text.replace("0.", ".", 1) for text in texts]):
        longest = max((text_width(text, 10.0) / 10 for text in shown), default=0.0)
        points = min(_VALUE_POINTS, 0.86 * cell / longest) if longest else _VALUE_POINTS
        if points >= _VALUE_POINTS - 0.5:
            break
    return shown, points


def _number(written: str, value: float) -> str:
    if not np.isfinite(value):
        return "–"
    text = written.format(value)
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")
