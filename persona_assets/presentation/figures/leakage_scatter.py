"""Scatter plots of leakage against JS and cosine: does similarity predict leakage?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.layout.correlation import numbers
from persona_assets.presentation.layout.outcomes import SAMPLED, Outcome, chosen_outcome
from persona_assets.presentation.layout.pairs import CosineColumn, cosine_columns
from persona_assets.presentation.layout.panels import (
    KEY_POINTS,
    LETTER_POINTS,
    LINE,
    MARGIN,
    TITLE,
    Grid,
    add_panel,
    padded,
    write_lines,
)
from persona_assets.presentation.layout.style import (
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    text_width,
    wrapped,
)
from persona_assets.presentation.layout.two_views import VIEWS_NOTE, rho_and_views, two_views
from persona_assets.presentation.summaries.leakage_headline import leakage_dyads

_LAYERS = 3
_COLOURS = 7  # of the style's colour cycle; coprime to the number of shapes, so that 70 sources are distinct
_SHAPES = "os^DvPX<*>"
_SIZES = {"o": 15, "s": 13, "^": 17, "D": 11, "v": 17, "P": 19, "X": 19, "<": 17, "*": 26, ">": 17}
_BAND, _HEIGHT = "#e4e4e4", 52.0

DYADS_NOT_INDEPENDENT = (
    "Dyads share sources and targets, so they are not independent: no p value from an iid test is printed."
)


def leakage_against_predictors(
    pair_table: pd.DataFrame,
    sources: Sequence[str] | None = None,
    cosines: Sequence[str] | None = None,
    statements: pd.DataFrame | None = None,
    trends: pd.DataFrame | None = None,
    width: float = TWO_COLUMNS,
    outcome: str = "",
) -> Figure:
    """Draw an outcome of every dyad against JS and against cosine, coloured by source.

    Every panel has Spearman's ρ and n and, if statements are given, the interval and p of both views.

    Args:
        pair_table: one row per dyad: `source`, `target`, `js` (nats), cosines in `cosine_<population>_layer<N>`,
            and the outcome with its interval and the source's own value (`layout.outcomes`); rows without it are left
            out.
        sources: the sources to show, in the legend's order; by default all, in the table's order.
        cosines: columns to show in addition to JS; by default the layers of the first centring population, reduced to
            the first, middle and last if there are more than three.
        statements: as returned by `statistics.infer`.
        trends: curve and band: columns predictor, place, rate, low, high, as returned by `statistics.trend`.
        width: width of the figure, in millimetres; with one column, panels are below each other.
        outcome: its column; by default the first one that was measured.

    Raises:
        ValueError: no dyad of these sources has the outcome, or the table has no such cosine.
    """
    chosen = chosen_outcome(pair_table, outcome)
    dyads = leakage_dyads(pair_table, chosen.column)
    shown = list(dict.fromkeys(dyads["source"])) if sources is None else [str(source) for source in sources]
    dyads = dyads[dyads["source"].isin(shown)]
    if dyads.empty:
        raise ValueError(f"pair_table: no dyad of sources {shown} has a {chosen.column}; expected at least one")
    predictors: list[CosineColumn | None] = [None, *_cosines(pair_table, cosines)]
    columns = {1: 1, 2: 2, 4: 2}.get(len(predictors), 3) if width > ONE_COLUMN else 1
    width = ONE_COLUMN if columns == 1 else width
    names = [predictor.column if predictor else "js" for predictor in predictors]
    views = [two_views(statements, "leakage", "spearman", name, chosen.column) for name in names]
    note = wrapped(VIEWS_NOTE if any(views) else DYADS_NOT_INDEPENDENT, KEY_POINTS, width - 2 * MARGIN)
    subtitle = wrapped(_subtitle(dyads, chosen, trends, names), LETTER_POINTS, width - 2 * MARGIN)
    key = _key(dyads, chosen, shown, width - 2 * MARGIN)
    header = MARGIN + TITLE + (len(subtitle) + len(key)) * LINE + 4.0
    grid = Grid(width, columns, header, 1 + max(map(len, views)), _HEIGHT if columns < 3 else 46.0)
    below = grid.below(grid.rows(len(predictors)))
    with house_style():
        figure = new_figure(width, below + len(note) * LINE + MARGIN)
        title = "Leakage against JS and cosine, one point a dyad" if len(predictors) > 1 else "Leakage against JS"
        title += "" if chosen is SAMPLED else f": {chosen.name}"
        add_text(figure, MARGIN, MARGIN, title, weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, LETTER_POINTS)
        for index, (predictor, name) in enumerate(zip(predictors, names, strict=True)):
            x, y = numbers(dyads[name]), numbers(dyads[chosen.column])
            said = f"cosine, layer {predictor.layer}" if predictor else "JS"
            axes = add_panel(figure, grid, index, said, rho_and_views(x, y, views[index]), x)
            if trends is not None:
                _draw_trend(axes, trends[trends["predictor"] == name])
            _draw_dyads(axes, dyads, chosen, shown, name)
            axes.set_xlabel(f"cosine, centred on {display_name(predictor.population)}" if predictor else "JS (nats)")
            axes.tick_params(labelleft=index % columns == 0)
            if index % columns == 0:
                axes.set_ylabel(chosen.axis)
        _write_key(figure, MARGIN + TITLE + len(subtitle) * LINE + 0.8, key, width)
        write_lines(figure, below + 0.2 * LINE, note, KEY_POINTS)
    return figure


def _cosines(pair_table: pd.DataFrame, columns: Sequence[str] | None) -> list[CosineColumn]:
    """Return the requested columns, or up to three of the first centring population."""
    found = cosine_columns(pair_table)
    if columns is not None:
        by_name = {cosine.column: cosine for cosine in found}
        if absent := [name for name in columns if name not in by_name]:
            raise ValueError(f"cosines: found {absent}; expected some of {list(by_name)}")
        return [by_name[name] for name in columns]
    first = [cosine for cosine in found if cosine.population == found[0].population]
    kept = np.unique(np.linspace(0, len(first) - 1, min(_LAYERS, len(first))).round().astype(int))
    return [first[index] for index in kept]


def _subtitle(dyads: pd.DataFrame, outcome: Outcome, trends: pd.DataFrame | None, predictors: Sequence[str]) -> str:
    sources = dyads["source"].nunique()
    plurals = "s" * (len(dyads) != 1), "s" * (sources != 1)
    said = f"{len(dyads)} dyad{plurals[0]} from {sources} source{plurals[1]} · bars: {outcome.bars}"
    drawn = trends[trends["predictor"].isin(predictors)] if trends is not None else pd.DataFrame()
    if drawn.empty:
        return said
    band = ", band: 95 %, jackknife over sources" if drawn["low"].notna().any() else ""
    return f"{said} · line: {'logistic curve' if outcome.is_rate else 'straight line'}{band}"


def _draw_trend(axes: Axes, curve: pd.DataFrame) -> None:
    if curve.empty:
        return
    place, rate, low, high = (numbers(curve[name]) for name in ("place", "rate", "low", "high"))
    axes.fill_between(place, low, high, color=_BAND, linewidth=0, zorder=0)
    axes.plot(place, rate, color="#8a8a8a", linewidth=1.0, zorder=0.5)


def _draw_dyads(axes: Axes, dyads: pd.DataFrame, outcome: Outcome, sources: Sequence[str], predictor: str) -> None:
    x = numbers(dyads[predictor])
    y, low, high = (numbers(dyads[name]) for name in (outcome.column, outcome.low, outcome.high))
    for number, source in enumerate(sources):
        of_source = (dyads["source"] == source).to_numpy(dtype=bool)
        colour, shape = marker_style(number)
        axes.vlines(x[of_source], low[of_source], high[of_source], color=colour, alpha=0.45, linewidth=0.7, zorder=1)
        axes.scatter(
            x[of_source],
            y[of_source],
            s=1.25 * _SIZES[shape],
            marker=shape,
            color=colour,
            edgecolors="white",
            linewidths=0.35,
            zorder=2,
            clip_on=False,
        )
    axes.set_ylim(*outcome_limits(dyads, outcome))
    axes.locator_params(axis="y", nbins=5)


def outcome_limits(dyads: pd.DataFrame, outcome: Outcome) -> tuple[float, float]:
    """Return y limits: for rates from just below 0 to just above the highest interval, for gains around the data."""
    ends = np.concatenate([numbers(dyads[name]) for name in (outcome.column, outcome.low, outcome.high)])
    if not outcome.is_rate:
        return padded(ends)
    top = min(1.0, 1.06 * float(np.nanmax(ends, initial=0.05)))
    return -0.025 * top, top


def marker_style(number: int) -> tuple[str, str]:
    """Return the colour and shape of a source, by its number in the common order."""
    return f"C{number % _COLOURS}", _SHAPES[number % len(_SHAPES)]


def _key(
    dyads: pd.DataFrame, outcome: Outcome, sources: Sequence[str], width: float
) -> list[list[tuple[int, str, float]]]:
    """Return the lines of the legend: number of the source, text, distance from the left (mm)."""
    known = outcome.of_source in dyads
    own = dyads.groupby("source")[outcome.of_source].first().dropna().to_dict() if known else {}
    lines: list[list[tuple[int, str, float]]] = [[]]
    left = 0.0
    for number, source in enumerate(sources):
        text = display_name(source) + (f" (itself {float(own[source]):.{outcome.decimals}f})" if source in own else "")
        needed = 3.2 + text_width(text, KEY_POINTS) + 4.0
        if lines[-1] and left + needed - 4.0 > width:
            lines.append([])
            left = 0.0
        lines[-1].append((number, text, left))
        left += needed
    return lines


def _write_key(figure: Figure, top: float, key: list[list[tuple[int, str, float]]], width: float) -> None:
    axes = add_axes(figure, 0, top, width, len(key) * LINE)
    axes.set(xlim=(0, width), ylim=(len(key) * LINE, 0))
    axes.set_axis_off()
    for line, entries in enumerate(key):
        for number, text, left in entries:
            colour, shape = marker_style(number)
            middle = (line + 0.5) * LINE
            axes.scatter([MARGIN + left + 1.1], [middle], s=_SIZES[shape], marker=shape, color=colour, linewidths=0)
            axes.text(MARGIN + left + 3.2, middle, text, size=KEY_POINTS, color=INK, va="center_baseline")
