"""Heatmap of marker leakage from source to target, by one outcome."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from persona_assets.presentation.figures.leakage_cells import (
    Cell,
    Dyad,
    base_text,
    leakage_cells,
    outcome_of_leakage,
    texts_of,
)
from persona_assets.presentation.layout.outcomes import SAMPLED, Outcome
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
    wrapped,
)

# Millimetres and points.
_MARGIN, _CELL, _WIDEST_CELL = 2.0, 8.0, 15.0
_NAME_POINTS, _VALUE_POINTS, _SMALLEST_POINTS = 6.5, 6.0, 4.5
_LEVEL_POINTS, _LEVEL_LINE, _LEVEL_APART, _NAME_GAP = 6.0, 2.7, 1.5, 1.2
_TITLE, _SUBTITLE_LINE = 4.2, 3.1
_BAR_WIDTH, _BAR_HEIGHT, _FOOTER = 36.0, 2.2, 13.0
_OUTLINE = 1.1
_CORNER, _KEY_LINE = 1.6, 3.8
_ITSELF, _NEGATIVE = "source on itself", "trained negative"

Scale = tuple[Colormap, Normalize]

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")


def leakage_heatmap(
    leakage_table: pd.DataFrame, order: Sequence[str], width: float = TWO_COLUMNS, outcome: str = ""
) -> Figure:
    """Draw an outcome of every dyad; cells of sources on themselves are outlined, trained negatives have a corner.

    Sampled rates are written as found/total; if the cells are too narrow, rates are written in percent and gains
    without decimals.

    Args:
        leakage_table: one row per dyad, as in `leakage_cells`, with `recipe`, and the outcome before training where it
            was measured.
        order: the personas in the common order (`persona_order`); personas without a dyad are left out.
        width: maximum width, in millimetres.
        outcome: its column in the pair table; by default the first one that was measured.

    Raises:
        ValueError: a source or target is not in `order`, there is no dyad, or the outcome was not measured.
    """
    chosen = outcome_of_leakage(leakage_table, outcome)
    cells = leakage_cells(leakage_table, chosen)
    sources = [name for name in order if name in {source for source, _ in cells}]
    present = {name for dyad in cells for name in dyad}
    targets = [name for name in order if name in present]
    if not present or present - set(order):
        raise ValueError(f"leakage_table: found personas {sorted(present)}; expected some of {list(order)}")
    names_width = max(text_width(display_name(name), _NAME_POINTS) for name in sources) + _NAME_GAP + 0.5
    written = texts_of(cells, is_short=False)
    cell = _cell_width(written.values(), targets, width - 2 * _MARGIN - names_width)
    width = min(width, max(ONE_COLUMN, 2 * _MARGIN + names_width + len(targets) * cell))
    is_short = _points(written.values(), cell) < _SMALLEST_POINTS
    said = _subtitle(leakage_table, chosen, sources, targets)
    said += " · cells: percent" if is_short and chosen.is_rate else ""
    subtitle = wrapped(said, _NAME_POINTS, width - 3 * _MARGIN)
    above = _names_height(targets, cell)
    top = _MARGIN + _TITLE + len(subtitle) * _SUBTITLE_LINE + 1.5
    height = len(sources) * _CELL
    scale = _scale(cells.values(), chosen)
    title = "Marker leakage from source to target" if chosen is SAMPLED else f"Marker leakage: {chosen.name}"
    with house_style():
        figure = new_figure(width, top + above + height + _FOOTER)
        add_text(figure, _MARGIN, _MARGIN, title, weight="bold", size=8, color=INK)
        for number, line in enumerate(subtitle):
            place = _MARGIN + _TITLE + number * _SUBTITLE_LINE
            add_text(figure, _MARGIN, place, line, size=_NAME_POINTS, color=MUTED)
        axes = add_axes(figure, _MARGIN + names_width, top + above, len(targets) * cell, height)
        axes.set(xlim=(0, len(targets) * cell), ylim=(height, 0))
        axes.set_axis_off()
        _draw(axes, cells, texts_of(cells, is_short), sources, targets, cell, scale)
        _name(axes, sources, targets, cell)
        keys = [_ITSELF, *([_NEGATIVE] if any(each.is_negative for each in cells.values()) else [])]
        ends = _BAR_WIDTH + 11.2 + max(text_width(key, _NAME_POINTS) for key in keys)
        left = min(_MARGIN + names_width, width - _MARGIN - ends)
        _footer(figure, left, top + above + height + 3.0, scale, chosen.axis, keys)
    return figure


def _scale(cells: Iterable[Cell], outcome: Outcome) -> Scale:
    """Return colours for all values: rates from 0 to 1; gains from 0 to the largest, or from the lowest if below 0."""
    if outcome.is_rate:
        return colormaps["OrRd"], Normalize(0.0, 1.0)
    values = [cell.value for cell in cells]
    return colormaps["BuPu"], Normalize(min(0.0, *values), max(1.0, *values))


def _subtitle(leakage_table: pd.DataFrame, outcome: Outcome, sources: Sequence[str], targets: Sequence[str]) -> str:
    plural = "s" * (len(sources) != 1)
    text = f"recipe {recipe_names(leakage_table)} · {len(sources)} source{plural} (row{plural})"
    text += f", {len(targets)} targets (columns)"
    return f"{text} · {base_text(leakage_table, outcome)}"


def recipe_names(leakage_table: pd.DataFrame) -> str:
    """Return the names of the training recipes in the table, with shortened digests."""
    recipes = dict.fromkeys(str(recipe) for recipe in leakage_table["recipe"].dropna())
    return ", ".join(_DIGEST.sub(r"\1…", recipe) for recipe in recipes) or "not named"


def _cell_width(texts: Collection[str], targets: Sequence[str], room: float) -> float:
    """Return a cell width that fits the longest text and, up to a limit, horizontal names above it."""
    written = max(text_width(text, _VALUE_POINTS) for text in texts) + 1.6
    words = max(text_width(word, _LEVEL_POINTS) for name in targets for word in display_name(name).split()) + 1.2
    return min(max(_CELL, written, words if words <= _WIDEST_CELL else 0.0), room / len(targets))


def _is_level(targets: Sequence[str], cell: float) -> bool:
    return all(text_width(word, _LEVEL_POINTS) < cell for name in targets for word in display_name(name).split())


def _level_lines(name: str, cell: float) -> list[str]:
    return wrapped(display_name(name), _LEVEL_POINTS, cell - _LEVEL_APART)


def _names_height(targets: Sequence[str], cell: float) -> float:
    if _is_level(targets, cell):
        return _NAME_GAP + _LEVEL_LINE * max(len(_level_lines(name, cell)) for name in targets)
    return _NAME_GAP + max(text_width(display_name(name), _NAME_POINTS) for name in targets)


def _points(texts: Collection[str], cell: float) -> float:
    """Return the font size at which the longest text fits a cell."""
    longest = max(text_width(text, 10.0, "bold") / 10 for text in texts)
    return min(_VALUE_POINTS, 0.88 * cell / longest)


def _draw(
    axes: Axes,
    cells: Mapping[Dyad, Cell],
    texts: Mapping[Dyad, str],
    sources: Sequence[str],
    targets: Sequence[str],
    cell: float,
    scale: Scale,
) -> None:
    """Draw the cells one by one, so that those of sources on themselves can be outlined."""
    points, (colours, norm) = _points(texts.values(), cell), scale
    for row, source in enumerate(sources):
        for column, target in enumerate(targets):
            left, top = column * cell, row * _CELL
            value = cells[source, target].value if (source, target) in cells else np.nan
            fill = colours(norm(value)) if np.isfinite(value) else (1.0, 1.0, 1.0, 1.0)
            ink = readable_on(fill) if value else MUTED  # a rate of exactly 0 is muted
            axes.add_patch(Rectangle((left, top), cell, _CELL, facecolor=fill, edgecolor="white", linewidth=0.6))
            if source == target:
                inset = min(0.45, cell / 8)
                size = (cell - 2 * inset, _CELL - 2 * inset)
                axes.add_patch(Rectangle((left + inset, top + inset), *size, fill=False, ec=INK, lw=_OUTLINE, zorder=3))
            elif (source, target) in cells and cells[source, target].is_negative:
                axes.add_patch(_corner(left + cell - 0.4, top + 0.4, min(_CORNER, cell / 3), ink))
            if points >= _SMALLEST_POINTS:
                axes.text(
                    left + cell / 2,
                    top + _CELL / 2,
                    texts.get((source, target), "–"),
                    size=points,
                    color=ink if np.isfinite(value) else MUTED,
                    weight="bold" if source == target else "normal",
                    ha="center",
                    va="center_baseline",
                )


def _corner(right: float, top: float, size: float, colour: str) -> Polygon:
    """Return the triangle in the upper right corner of a trained negative's cell."""
    return Polygon([(right - size, top), (right, top), (right, top + size)], facecolor=colour, linewidth=0, zorder=3)


def _name(axes: Axes, sources: Sequence[str], targets: Sequence[str], cell: float) -> None:
    for row, name in enumerate(sources):
        place = (-_NAME_GAP, (row + 0.5) * _CELL)
        axes.text(*place, display_name(name), size=_NAME_POINTS, color=INK, ha="right", va="center_baseline")
    level = _is_level(targets, cell)
    for column, name in enumerate(targets):
        place = ((column + 0.5) * cell, -_NAME_GAP)
        if level:
            lines = _level_lines(name, cell)
            for number, line in enumerate(reversed(lines)):
                at = (place[0], place[1] - number * _LEVEL_LINE)
                axes.text(*at, line, size=_LEVEL_POINTS, color=INK, ha="center", va="baseline")
        else:
            points = min(_NAME_POINTS, 0.9 * cell / MM_PER_POINT)
            axes.text(*place, display_name(name), size=points, color=INK, ha="center", va="bottom", rotation=90)


def _footer(figure: Figure, left: float, top: float, scale: Scale, label: str, keys: Sequence[str]) -> None:
    """Draw the colour bar and the keys of the outline and of the corner."""
    axes = add_axes(figure, left, top, _BAR_WIDTH, _BAR_HEIGHT)
    colours, norm = scale
    ticks = [0, 0.5, 1] if (norm.vmin, norm.vmax) == (0.0, 1.0) else None
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=axes, orientation="horizontal", ticks=ticks)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, length=1.8, width=0.5)
    if ticks is None:
        bar.ax.locator_params(nbins=4)
    bar.ax.set_xlabel(label, size=_NAME_POINTS, color=INK, labelpad=1.5)
    for number, text in enumerate(keys):
        below = top + number * _KEY_LINE
        key = add_axes(figure, left + _BAR_WIDTH + 6.0, below - 0.4, 4.0, 3.0)
        key.set(xlim=(0, 4.0), ylim=(3.0, 0))
        key.set_axis_off()
        if text == _ITSELF:
            key.add_patch(Rectangle((0.32, 0.3), 3.36, 2.4, fill=False, ec=INK, lw=_OUTLINE))
        else:
            key.add_patch(_corner(2.9, 0.7, _CORNER, INK))
        add_text(figure, left + _BAR_WIDTH + 11.2, below, text, size=_NAME_POINTS, color=INK)
