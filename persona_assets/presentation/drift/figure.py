"""Figure of how similarity and leakage change between checkpoints."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.drift.distance import UNSURE, draw_distances, smallest_p_text
from persona_assets.presentation.drift.leakage import draw_leakage
from persona_assets.presentation.drift.pairs import MOST_NAMED, Values, draw_pairs, values_by_pair
from persona_assets.presentation.layout.pairs import CosineColumn, cosine_columns
from persona_assets.presentation.layout.panels import KEY_POINTS, LETTER_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    INK,
    MUTED,
    TWO_COLUMNS,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    text_width,
    wrapped,
)
from persona_assets.presentation.layout.timeline import LINE_STYLES, Timeline, numbered_series, timeline

# Millimetres.
_LEFT, _LABELS, _GAP = 13.0, 30.0, 3.0
_WIDTH = (TWO_COLUMNS - 2 * MARGIN - _GAP) / 2
_AXES = (_WIDTH - _LEFT - _LABELS, 43.0)
_X_AXIS = 12.0

_COLUMNS = {
    "levels": ("checkpoint", "series", "step", "quantity", "a", "b", "estimate", "low", "high"),
    "changes": ("checkpoint", "previous", "quantity", "a", "b", "change", "moved"),
    "distances": ("checkpoint", "previous", "quantity", "rms_change", "noise", "excess", "p", "smallest_p"),
}
_BARS = "Bars: bootstrap over questions; of rates, Wilson."
_HOW = (
    "A pair moved if, between a checkpoint and the one before, the "
    "interval of its change excludes 0, simultaneously for all pairs. Noise of the questions: what other questions "
    "alone would give. p: that nothing changed; the signs of whole questions’ changes are flipped."
)

# Title, text below it, and the drawing function, or None if there is nothing to draw.
_Panel = tuple[str, str, Callable[[Axes, Timeline], None] | None]


def checkpoint_drift_figure(levels: pd.DataFrame, changes: pd.DataFrame, distances: pd.DataFrame) -> Figure:
    """Draw JS, one cosine, leakage, and the distance of each JS matrix from the previous one.

    The cosine is that of the first centring population in its middle layer. A panel without data explains in words what
    is missing.

    Args:
        levels, changes, distances: the tables of `metrics.Drift`.

    Raises:
        ValueError: a column is missing, or `levels` has no JS.
    """
    for name, table in (("levels", levels), ("changes", changes), ("distances", distances)):
        if absent := [column for column in _COLUMNS[name] if column not in table.columns]:
            raise ValueError(f"{name}: found columns {list(table.columns)}; expected also {absent}")
    if not (levels["quantity"] == "js").any():
        raise ValueError(f"levels: found quantities {list(levels['quantity'].unique())}; expected js")
    time = timeline(levels, distances, _AXES[0])
    panels = [
        _js_panel(levels, changes, time),
        _cosine_panel(levels, changes, time),
        _leakage_panel(levels),
        _distance_panel(distances),
    ]
    said = [wrapped(text, LETTER_POINTS, _WIDTH - 7.0) for _, text, _ in panels]
    heads = [TITLE + LINE * max(len(said[row]), len(said[row + 1])) + 1.5 for row in (0, 2)]
    subtitle = wrapped(_subtitle(levels, changes), LETTER_POINTS, TWO_COLUMNS - 2 * MARGIN)
    room = TWO_COLUMNS - 4 * MARGIN
    note = time.key(KEY_POINTS, room) + wrapped(_BARS if distances.empty else f"{_BARS} {_HOW}", KEY_POINTS, room)
    series = _series_key(time)
    heads[1] += LINE if series else 0.0  # panel d has the series names above its points
    lower = any(draw is not None for _, _, draw in panels[2:])
    header = MARGIN + TITLE + (len(subtitle) + len(series)) * LINE + 2.0
    tops = [header, header + heads[0] + _AXES[1] + _X_AXIS]
    below = tops[1] + heads[1] + (_AXES[1] + _X_AXIS if lower else 0.0)
    with house_style():
        figure = new_figure(TWO_COLUMNS, below + len(note) * LINE + MARGIN)
        add_text(figure, MARGIN, MARGIN, "Drift from checkpoint to checkpoint", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, LETTER_POINTS)
        if series:
            _write_series(figure, MARGIN + TITLE + len(subtitle) * LINE, series)
        for index, (panel, lines) in enumerate(zip(panels, said, strict=True)):
            row, column = divmod(index, 2)
            place = (MARGIN + column * (_WIDTH + _GAP), tops[row])
            _draw_panel(figure, place, heads[row], "abcd"[index], panel, lines, time)
        write_lines(figure, below, note, KEY_POINTS)
    return figure


def _subtitle(levels: pd.DataFrame, changes: pd.DataFrame) -> str:
    pairs = len(values_by_pair(levels, "js"))
    parts = [_count(levels["checkpoint"].nunique(), "checkpoint"), _count(pairs, "pair")]
    if len(changes):
        parts.append(_count(changes.groupby(["checkpoint", "previous"]).ngroups, "comparison"))
    series = [name for name in levels["series"].fillna("").unique() if name]
    if len(series) == 1:  # several series are listed in the legend
        parts.insert(0, f"series {display_name(series[0])}")
    return " · ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _js_panel(levels: pd.DataFrame, changes: pd.DataFrame, time: Timeline) -> _Panel:
    values = values_by_pair(levels, "js")
    said = _moved_text("js", values, changes, time, "needs two questions or more")
    return "JS between personas", said, lambda axes, time: draw_pairs(axes, "JS (nats)", _AXES, values, time, _LABELS)


def _cosine_panel(levels: pd.DataFrame, changes: pd.DataFrame, time: Timeline) -> _Panel:
    chosen = middle_cosine(levels)
    if chosen is None:
        return "Cosine", "No cosine was measured at any of these checkpoints.", None
    values = values_by_pair(levels, chosen.column)
    title = f"Cosine, layer {chosen.layer}, centred on {display_name(chosen.population)}"
    said = _moved_text(chosen.column, values, changes, time, "needs the states of two questions or more")
    return title, said, lambda axes, time: draw_pairs(axes, "cosine", _AXES, values, time, _LABELS)


def middle_cosine(levels: pd.DataFrame) -> CosineColumn | None:
    """Return the middle layer of the first centring population; None if there is no cosine."""
    found = cosine_columns(pd.DataFrame(columns=levels["quantity"].unique()))
    first = [cosine for cosine in found if cosine.population == found[0].population]
    return first[(len(first) - 1) // 2] if first else None


def _moved_text(quantity: str, values: Values, changes: pd.DataFrame, time: Timeline, needed: str) -> str:
    """Describe what a matrix panel shows, how many pairs moved, and what is not available."""
    of_quantity = changes[changes["quantity"] == quantity]
    many = len(values) > MOST_NAMED
    intervals = any(np.isfinite(low) for at in values.values() for _, low, _ in at.values())
    without = "" if intervals else f" No intervals: a bootstrap over questions {needed}."
    if of_quantity.empty:
        named = f"named, the {MOST_NAMED} highest of {len(values)} pairs. " if many else ""
        return f"Nothing to compare with; {named or 'levels alone. '}{without}".strip()
    moved = of_quantity.loc[of_quantity["moved"].astype(bool), ["a", "b"]].drop_duplicates()
    where = " (in which series)" if len(time.lines()) > 1 else ""
    named = f"In colour, the {MOST_NAMED} pairs that moved most, first to last{where}. " if many else ""
    count = f"{len(moved)} of {_count(len(values), 'pair')} moved at least once."
    return f"{named}{count if intervals else ''}{without}".strip()


def _leakage_panel(levels: pd.DataFrame) -> _Panel:
    rates = {
        quantity: values_by_pair(levels, quantity)
        for quantity in ("source_rate", "leakage_rate", "mean_leakage_rate", "base_rate")
    }
    title = "Leakage rate"
    if not any(rates.values()):
        return title, "No leakage was measured at any of these checkpoints.", None
    absent = [
        text
        for quantity, text in (
            ("source_rate", "the sources’ own rates"),
            ("leakage_rate", "leakage"),
            ("base_rate", "the base rate"),
        )
        if not rates[quantity]
    ]
    said = "Share of replies that hold the marker."
    if absent:
        said += f" Not counted: {', '.join(absent)}."
    return title, said, lambda axes, time: draw_leakage(axes, _AXES, rates, time, _LABELS)


def _distance_panel(distances: pd.DataFrame) -> _Panel:
    of_js = distances[(distances["quantity"] == "js") & distances["rms_change"].notna()]
    title = "Distance of each JS matrix from the one before"
    if of_js.empty:
        return title, "No checkpoint is compared with one before it.", None
    said = f"Grey: p > {UNSURE}. {smallest_p_text(of_js)}."
    if of_js["noise"].isna().any():
        said += " Noise is unknown where there is one question."
    return title, said, lambda axes, time: draw_distances(axes, _AXES, of_js, time, _LABELS)


def _draw_panel(
    figure: Figure,
    place: tuple[float, float],
    head: float,
    letter: str,
    panel: _Panel,
    lines: list[str],
    time: Timeline,
) -> None:
    left, top = place
    title, _, draw = panel
    add_text(figure, left, top, letter, weight="bold", size=8, color=INK)
    add_text(figure, left + 4.0, top + 0.2, title, weight="bold", size=7, color=INK)
    for number, line in enumerate(lines):
        add_text(figure, left + 4.0, top + TITLE + number * LINE - 0.4, line, size=LETTER_POINTS, color=MUTED)
    if draw is not None:
        draw(add_axes(figure, left + _LEFT, top + head, *_AXES), time)


def _series_key(time: Timeline) -> list[list[tuple[int, str, float]]]:
    """Return the lines of the series legend: number of the path, its name, distance from the left (mm)."""
    lines: list[list[tuple[int, str, float]]] = [[]]
    left = MARGIN
    names = numbered_series(time)
    for number, name in enumerate(names if len(names) > 1 else []):
        needed = 8.0 + text_width(name, KEY_POINTS)
        if lines[-1] and left + needed > TWO_COLUMNS - MARGIN:
            lines.append([])
            left = MARGIN
        lines[-1].append((number, name, left))
        left += needed + 5.0
    return [line for line in lines if line]


def _write_series(figure: Figure, top: float, key: list[list[tuple[int, str, float]]]) -> None:
    """Draw the legend of the series."""
    axes = add_axes(figure, 0, top, TWO_COLUMNS, len(key) * LINE)
    axes.set(xlim=(0, TWO_COLUMNS), ylim=(len(key) * LINE, 0))
    axes.set_axis_off()
    for line, entries in enumerate(key):
        middle = (line + 0.5) * LINE
        for number, name, left in entries:
            style = LINE_STYLES[number % len(LINE_STYLES)]
            axes.plot([left, left + 7.0], [middle, middle], color=INK, linestyle=style, linewidth=0.9)
            axes.text(left + 8.0, middle, name, size=KEY_POINTS, color=INK, va="center_baseline")
