"""Heatmap of marker leakage from source to target."""

import re
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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
from persona_assets.presentation.summaries.leakage_headline import Count, base_counts, pooled, source_counts

# Millimetres and points.
_MARGIN, _CELL, _WIDEST_CELL = 2.0, 8.0, 15.0
_NAME_POINTS, _VALUE_POINTS, _SMALLEST_POINTS = 6.5, 6.0, 4.5
_LEVEL_POINTS, _LEVEL_LINE, _LEVEL_APART, _NAME_GAP = 6.0, 2.7, 1.5, 1.2
_TITLE, _SUBTITLE_LINE = 4.2, 3.1
_BAR_WIDTH, _BAR_HEIGHT, _FOOTER = 36.0, 2.2, 13.0
_OUTLINE = 1.1
_ITSELF = "source on itself"

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")


def leakage_heatmap(leakage_table: pd.DataFrame, order: Sequence[str], width: float = TWO_COLUMNS) -> Figure:
    """Draw the leakage rate of every dyad; cells of sources on themselves are outlined.

    Rates are written as found/total, or in percent if the cells are too narrow.

    Args:
        leakage_table: one row per dyad: `source`, `target`, `found`, `total`, `source_found`, `source_total`, `recipe`
            and, if the base model was counted, the target's `base_found` and `base_total`.
        order: the personas in the common order (`persona_order`); personas without a dyad are left out.
        width: maximum width, in millimetres.

    Raises:
        ValueError: a source or target is not in `order`, or there is no dyad.
    """
    counts = _cells(leakage_table)
    sources = [name for name in order if name in {source for source, _ in counts}]
    present = {name for dyad in counts for name in dyad}
    targets = [name for name in order if name in present]
    if not present or present - set(order):
        raise ValueError(f"leakage_table: found personas {sorted(present)}; expected some of {list(order)}")
    names_width = max(text_width(display_name(name), _NAME_POINTS) for name in sources) + _NAME_GAP + 0.5
    cell = _cell_width(counts, targets, width - 2 * _MARGIN - names_width)
    width = min(width, max(ONE_COLUMN, 2 * _MARGIN + names_width + len(targets) * cell))
    write = _written if _points(counts, cell, _written) >= _SMALLEST_POINTS else _percent
    said = _subtitle(leakage_table, sources, targets) + (" · cells: percent" if write is _percent else "")
    subtitle = wrapped(said, _NAME_POINTS, width - 3 * _MARGIN)
    above = _names_height(targets, cell)
    top = _MARGIN + _TITLE + len(subtitle) * _SUBTITLE_LINE + 1.5
    height = len(sources) * _CELL
    with house_style():
        figure = new_figure(width, top + above + height + _FOOTER)
        add_text(figure, _MARGIN, _MARGIN, "Marker leakage from source to target", weight="bold", size=8, color=INK)
        for number, line in enumerate(subtitle):
            place = _MARGIN + _TITLE + number * _SUBTITLE_LINE
            add_text(figure, _MARGIN, place, line, size=_NAME_POINTS, color=MUTED)
        axes = add_axes(figure, _MARGIN + names_width, top + above, len(targets) * cell, height)
        axes.set(xlim=(0, len(targets) * cell), ylim=(height, 0))
        axes.set_axis_off()
        _draw(axes, counts, sources, targets, cell, write)
        _name(axes, sources, targets, cell)
        ends = _BAR_WIDTH + 11.2 + text_width(_ITSELF, _NAME_POINTS)
        _footer(figure, min(_MARGIN + names_width, width - _MARGIN - ends), top + above + height + 3.0)
    return figure


def _cells(leakage_table: pd.DataFrame) -> dict[tuple[str, str], Count]:
    """Return found and total by (source, target); a source on itself has its own columns in the table."""
    dyads = leakage_table.dropna(subset=["found", "total"])
    counts = {
        (str(row["source"]), str(row["target"])): (int(row["found"]), int(row["total"]))
        for row in dyads.to_dict("records")
    }
    return counts | {(source, source): count for source, count in source_counts(leakage_table).items()}


def _subtitle(leakage_table: pd.DataFrame, sources: Sequence[str], targets: Sequence[str]) -> str:
    plural = "s" * (len(sources) != 1)
    text = f"recipe {recipe_names(leakage_table)} · {len(sources)} source{plural} (row{plural})"
    text += f", {len(targets)} targets (columns)"
    return f"{text} · {base_text(leakage_table)}"


def recipe_names(leakage_table: pd.DataFrame) -> str:
    """Return the names of the training recipes in the table, with shortened digests."""
    recipes = dict.fromkeys(str(recipe) for recipe in leakage_table["recipe"].dropna())
    return ", ".join(_DIGEST.sub(r"\1…", recipe) for recipe in recipes) or "not named"


def base_text(leakage_table: pd.DataFrame) -> str:
    """Describe the marker's count before training, pooled over all targets."""
    base = base_counts(leakage_table)
    return "base {}/{} before training".format(*pooled(base.values())) if base else "base rate not measured"


def _cell_width(counts: Mapping[tuple[str, str], Count], targets: Sequence[str], room: float) -> float:
    """Return a cell width that fits a count and, up to a limit, horizontal names above it."""
    written = max(text_width(_written(count), _VALUE_POINTS) for count in counts.values()) + 1.6
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


def _written(count: Count) -> str:
    return f"{count[0]}/{count[1]}"


def _percent(count: Count) -> str:
    return f"{100 * count[0] / count[1]:.0f}" if count[1] else "–"


def _points(counts: Mapping[tuple[str, str], Count], cell: float, write: Callable[[Count], str]) -> float:
    """Return the font size at which the longest text fits a cell."""
    longest = max(text_width(write(count), 10.0, "bold") / 10 for count in counts.values())
    return min(_VALUE_POINTS, 0.88 * cell / longest)


def _draw(
    axes: Axes,
    counts: Mapping[tuple[str, str], Count],
    sources: Sequence[str],
    targets: Sequence[str],
    cell: float,
    write: Callable[[Count], str],
) -> None:
    """Draw the cells one by one, so that those of sources on themselves can be outlined."""
    colours, norm = colormaps["OrRd"], Normalize(0.0, 1.0)
    points = _points(counts, cell, write)
    for row, source in enumerate(sources):
        for column, target in enumerate(targets):
            left, top = column * cell, row * _CELL
            count = counts.get((source, target))
            rate = count[0] / count[1] if count and count[1] else None
            fill = "white" if rate is None else colours(norm(rate))
            axes.add_patch(Rectangle((left, top), cell, _CELL, facecolor=fill, edgecolor="white", linewidth=0.6))
            if source == target:
                inset = min(0.45, cell / 8)
                size = (cell - 2 * inset, _CELL - 2 * inset)
                axes.add_patch(Rectangle((left + inset, top + inset), *size, fill=False, ec=INK, lw=_OUTLINE, zorder=3))
            if points < _SMALLEST_POINTS:
                continue
            ink = MUTED if not rate else readable_on(colours(norm(rate)))
            text = "–" if count is None else write(count)
            weight = "bold" if source == target else "normal"
            axes.text(
                left + cell / 2,
                top + _CELL / 2,
                text,
                size=points,
                color=ink,
                weight=weight,
                ha="center",
                va="center_baseline",
            )


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


def _footer(figure: Figure, left: float, top: float) -> None:
    """Draw the colour bar and the key of the outline."""
    axes = add_axes(figure, left, top, _BAR_WIDTH, _BAR_HEIGHT)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0.0, 1.0), colormaps["OrRd"]), cax=axes, orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6, length=1.8, width=0.5)
    bar.ax.set_xlabel("leakage rate (found / total)", size=_NAME_POINTS, color=INK, labelpad=1.5)
    key = add_axes(figure, left + _BAR_WIDTH + 6.0, top - 0.4, 4.0, 3.0)
    key.set_axis_off()
    key.add_patch(Rectangle((0.08, 0.1), 0.84, 0.8, fill=False, ec=INK, lw=_OUTLINE))
    add_text(figure, left + _BAR_WIDTH + 11.2, top, _ITSELF, size=_NAME_POINTS, color=INK)
