"""Does the likeness of hidden states go with the likeness of next-token distributions?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.correlation import Floats
from persona_assets.presentation.pairs import CosineColumn, cosine_columns, unordered_pairs
from persona_assets.presentation.panels import (
    KEY_POINTS,
    LETTER_POINTS,
    LINE,
    MARGIN,
    PANEL_HEIGHT,
    ROW_HEIGHT,
    TITLE,
    add_panel,
    panel_place,
    panel_width,
    write_lines,
)
from persona_assets.presentation.placement import place_labels
from persona_assets.presentation.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    ORANGE,
    TWO_COLUMNS,
    add_text,
    house_style,
    new_figure,
    spoken,
    wrapped,
)

_PER_ROW = 4
_ENDS = 3

# Two groups of (letter, row of the pairs): the most divergent and the most similar.
Key = list[list[tuple[str, int]]]

NOT_INDEPENDENT = "Pairs share personas, so they are not independent: no p value from an iid test is printed."


def js_against_cosine(pair_table: pd.DataFrame, baseline: str | None = None) -> Figure:
    """JS of every pair against the cosine of its centroids: a panel a layer, a row of panels a centring population.

    Spearman's ρ is given with its n. Lettered points are the most divergent and the most similar pairs, named below.

    Args:
        pair_table: one row a dyad: `source`, `target`, `js` with `js_low` and `js_high` (nats), and cosines in
            `cosine_<population>_layer<N>`. Each pair is drawn once.
        baseline: pairs with this persona are drawn in another colour and shape.

    Raises:
        ValueError: the table holds no cosine, or a pair without one JS.
    """
    cosines = cosine_columns(pair_table)
    if not cosines:
        raise ValueError(f"pair_table: found columns {list(pair_table.columns)}; expected cosine_<population>_layer<N>")
    pairs = unordered_pairs(pair_table)
    rows = _rows(cosines)
    columns = max(len(row) for row in rows)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    panel = panel_width(width, columns)
    key = _key(pairs)
    key_columns = 1 if width == ONE_COLUMN else 2
    groups = [len(group) + 1 for group in key if group]
    key_height = LINE * (sum(groups) if key_columns == 1 else max(groups))
    subtitle = wrapped(_subtitle(pairs, baseline), LETTER_POINTS, width - 2 * MARGIN)
    warning = wrapped(NOT_INDEPENDENT, KEY_POINTS, width - 2 * MARGIN)
    header = MARGIN + TITLE + len(subtitle) * LINE + 2.5
    below = header + len(rows) * ROW_HEIGHT
    with house_style():
        figure = new_figure(width, below + key_height + (len(warning) + 1) * LINE + MARGIN)
        add_text(figure, MARGIN, MARGIN, "JS against cosine, one point a pair", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, LETTER_POINTS)
        for row, panels in enumerate(rows):
            for column, cosine in enumerate(panels):
                place = panel_place(header, panel, row, column)
                _panel(figure, place, panel, pairs, cosine, baseline, first=column == 0)
        _write_key(figure, below, pairs, key, width / 2 if key_columns == 2 else 0.0)
        write_lines(figure, below + key_height + 0.7 * LINE, warning, KEY_POINTS)
    return figure


def _subtitle(pairs: pd.DataFrame, baseline: str | None) -> str:
    personas = len(set(pairs["source"]) | set(pairs["target"]))
    count = f"{len(pairs)} pair" + "s" * (len(pairs) != 1)
    bars = f"{personas} personas, {count} · bars: bootstrap over questions"
    return f"{bars} · diamonds: pairs with {spoken(baseline)}" if baseline else bars


def _rows(cosines: list[CosineColumn]) -> list[list[CosineColumn]]:
    """Panels row by row: a population starts a row, and a row holds four."""
    rows: list[list[CosineColumn]] = []
    for cosine in cosines:
        if not rows or rows[-1][0].population != cosine.population or len(rows[-1]) == _PER_ROW:
            rows.append([])
        rows[-1].append(cosine)
    return rows


def _key(pairs: pd.DataFrame) -> Key:
    """Letter and row of the pairs to name: first the most divergent, from the top, then the most similar."""
    ends = min(_ENDS, len(pairs) // 2)
    divergent = [len(pairs) - 1 - rank for rank in range(ends)]
    similar = list(range(ends or len(pairs)))
    letters = iter("abcdefgh")
    return [[(next(letters), index) for index in group] for group in (divergent, similar)]


def _panel(
    figure: Figure,
    place: tuple[float, float],
    width: float,
    pairs: pd.DataFrame,
    cosine: CosineColumn,
    baseline: str | None,
    first: bool,
) -> None:
    x, y = pairs[cosine.column].to_numpy(dtype=float), pairs["js"].to_numpy(dtype=float)
    axes = add_panel(figure, place, width, f"layer {cosine.layer}", x, y)
    low, high = pairs["js_low"].to_numpy(dtype=float), pairs["js_high"].to_numpy(dtype=float)
    with_baseline = ((pairs["source"] == baseline) | (pairs["target"] == baseline)).to_numpy(dtype=bool)
    axes.vlines(x, low, high, color="#c4c4c4", linewidth=0.6, zorder=1)
    axes.scatter(x[~with_baseline], y[~with_baseline], s=9, color=BLUE, linewidths=0, zorder=2)
    if with_baseline.any():
        axes.scatter(x[with_baseline], y[with_baseline], s=13, marker="D", color=ORANGE, linewidths=0, zorder=3)
    axes.set_ylim(0.0, 1.12 * float(np.nanmax(np.append(high, y), initial=1e-6)))
    axes.set_xlabel(f"cosine, centred on {spoken(cosine.population)}")
    axes.tick_params(labelleft=first)
    if first:
        axes.set_ylabel("JS (nats)")
    _letters(axes, (width, PANEL_HEIGHT), x, y, _key(pairs))


def _letters(axes: Axes, size: tuple[float, float], x: Floats, y: Floats, key: Key) -> None:
    """Write the letters beside their points, in millimetres of the panel so that a gap is a gap on paper."""
    shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    points = [((x[i] - left) / (right - left) * size[0], (y[i] - bottom) / (top - bottom) * size[1]) for i in shown]
    marked = [
        (letter, int(np.flatnonzero(shown == index)[0])) for group in key for letter, index in group if index in shown
    ]
    places = place_labels(points, [point for _, point in marked], [(1.9, 2.2)] * len(marked), size, clear=0.9)
    for (letter, point), (across, up) in zip(marked, places, strict=True):
        if np.hypot(across - points[point][0], up - points[point][1]) > 2.6:
            ends = np.array([points[point], (across, up)]) / size
            axes.plot(*ends.T, transform=axes.transAxes, color=MUTED, linewidth=0.4, zorder=1.5)
        axes.text(
            across / size[0],
            up / size[1],
            letter,
            transform=axes.transAxes,
            size=LETTER_POINTS,
            weight="bold",
            color=INK,
            ha="center",
            va="center",
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none"},
            zorder=4,
        )


def _write_key(figure: Figure, top: float, pairs: pd.DataFrame, key: Key, step: float) -> None:
    """Name the lettered pairs, the two groups side by side where `step` says how far apart, else one below another."""
    groups = [(title, group) for title, group in zip(("most divergent", "most similar"), key, strict=True) if group]
    line = 0
    for column, (title, group) in enumerate(groups):
        left, line = (MARGIN + column * step, 0) if step else (MARGIN, line)
        add_text(figure, left, top + line * LINE, title, size=KEY_POINTS, color=MUTED)
        for letter, index in group:
            line += 1
            pair = pairs.iloc[index]
            names = f"{spoken(pair['source'])} – {spoken(pair['target'])}, {pair['js']:.3f} nats"
            add_text(figure, left, top + line * LINE, letter, size=KEY_POINTS, weight="bold", color=INK)
            add_text(figure, left + 2.2, top + line * LINE, names, size=KEY_POINTS, color=INK)
        line += 1
