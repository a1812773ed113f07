"""JS against cosine: are similar hidden states associated with similar next-token distributions?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.layout.correlation import numbers
from persona_assets.presentation.layout.labels import write_labels
from persona_assets.presentation.layout.pairs import CosineColumn, cosine_columns, unordered_pairs
from persona_assets.presentation.layout.panels import (
    KEY_POINTS,
    LETTER_POINTS,
    LINE,
    MARGIN,
    TITLE,
    Grid,
    add_panel,
    write_lines,
)
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    ORANGE,
    TWO_COLUMNS,
    add_text,
    display_name,
    house_style,
    new_figure,
    wrapped,
)
from persona_assets.presentation.layout.two_views import rho_and_views, two_views

_ENDS = 3
# Panels per row at two-column width; other numbers use four.
_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 3, 6: 3, 9: 3}

# Two groups of (letter, row number of the pair): the most divergent and the most similar pairs.
Key = list[list[tuple[str, int]]]

NOT_INDEPENDENT = "Pairs share personas, so they are not independent: no p value from an iid test is printed."
_VIEWS = (
    "[95 % interval]; iid: as if pairs were independent, which pairs that share personas are not; dyadic: the interval "
    "leaves out one persona after the other, p permutes the personas of one matrix."
)


def js_against_cosine(
    pair_table: pd.DataFrame,
    baseline: str | None = None,
    statements: pd.DataFrame | None = None,
    width: float = TWO_COLUMNS,
) -> Figure:
    """Draw JS of every pair against the cosine of its centroids, one panel per centring population and layer.

    Every panel has Spearman's ρ and n and, if statements are given, the interval and p of both views. Letters mark the
    most divergent and the most similar pairs, which are named below.

    Args:
        pair_table: one row per dyad: `source`, `target`, `js` with `js_low` and `js_high` (nats), and cosines in
            `cosine_<population>_layer<N>`. Each pair is drawn once.
        baseline: pairs with this persona are drawn in another colour and shape.
        statements: as returned by `statistics.infer`.
        width: maximum width, in millimetres.

    Raises:
        ValueError: the table has no cosine, or a pair has two different values of JS.
    """
    cosines = cosine_columns(pair_table)
    if not cosines:
        raise ValueError(f"pair_table: found columns {list(pair_table.columns)}; expected cosine_<population>_layer<N>")
    pairs = unordered_pairs(pair_table)
    columns = _COLUMNS.get(len(cosines), 4) if width > ONE_COLUMN else 1
    width = ONE_COLUMN if columns == 1 else width
    views = [two_views(statements, "pairs", "spearman over pairs", cosine.column, "js") for cosine in cosines]
    key = _key(pairs)
    key_columns = 1 if width == ONE_COLUMN else 2
    groups = [len(group) + 1 for group in key if group]
    key_height = LINE * (sum(groups) if key_columns == 1 else max(groups))
    subtitle = wrapped(_subtitle(pairs, baseline), LETTER_POINTS, width - 2 * MARGIN)
    note = wrapped(_VIEWS if any(views) else NOT_INDEPENDENT, KEY_POINTS, width - 2 * MARGIN)
    header = MARGIN + TITLE + len(subtitle) * LINE + 2.5
    grid = Grid(width, columns, header, 1 + max(map(len, views)))
    below = grid.below(grid.rows(len(cosines)))
    with house_style():
        figure = new_figure(width, below + key_height + (len(note) + 1) * LINE + MARGIN)
        add_text(figure, MARGIN, MARGIN, "JS against cosine, one point a pair", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, LETTER_POINTS)
        for index, cosine in enumerate(cosines):
            said = rho_and_views(numbers(pairs[cosine.column]), numbers(pairs["js"]), views[index])
            axes = add_panel(figure, grid, index, f"layer {cosine.layer}", said, numbers(pairs[cosine.column]))
            _draw(axes, grid, pairs, cosine, baseline, first=index % columns == 0)
        _write_key(figure, below, pairs, key, width / 2 if key_columns == 2 else 0.0)
        write_lines(figure, below + key_height + 0.7 * LINE, note, KEY_POINTS)
    return figure


def _subtitle(pairs: pd.DataFrame, baseline: str | None) -> str:
    personas = len(set(pairs["source"]) | set(pairs["target"]))
    count = f"{len(pairs)} pair" + "s" * (len(pairs) != 1)
    bars = f"{personas} personas, {count} · bars: bootstrap over questions"
    return f"{bars} · diamonds: pairs with {display_name(baseline)}" if baseline else bars


def _key(pairs: pd.DataFrame) -> Key:
    """Return the letter and row number of the pairs to name: the most divergent first, then the most similar."""
    ends = min(_ENDS, len(pairs) // 2)
    divergent = [len(pairs) - 1 - rank for rank in range(ends)]
    similar = list(range(ends or len(pairs)))
    letters = iter("abcdefgh")
    return [[(next(letters), index) for index in group] for group in (divergent, similar)]


def _draw(axes: Axes, grid: Grid, pairs: pd.DataFrame, cosine: CosineColumn, baseline: str | None, first: bool) -> None:
    x, y = numbers(pairs[cosine.column]), numbers(pairs["js"])
    low, high = numbers(pairs["js_low"]), numbers(pairs["js_high"])
    with_baseline = ((pairs["source"] == baseline) | (pairs["target"] == baseline)).to_numpy(dtype=bool)
    axes.vlines(x, low, high, color="#c4c4c4", linewidth=0.6, zorder=1)
    axes.scatter(x[~with_baseline], y[~with_baseline], s=9, color=BLUE, linewidths=0, zorder=2)
    if with_baseline.any():
        axes.scatter(x[with_baseline], y[with_baseline], s=13, marker="D", color=ORANGE, linewidths=0, zorder=3)
    axes.set_ylim(0.0, 1.12 * float(np.nanmax(np.append(high, y), initial=1e-6)))
    axes.set_xlabel(f"cosine, centred on {display_name(cosine.population)}")
    axes.tick_params(labelleft=first)
    if first:
        axes.set_ylabel("JS (nats)")
    points = np.column_stack([x, y])
    named = [(letter, index) for group in _key(pairs) for letter, index in group if np.isfinite(points[index]).all()]
    places, letters = points[[index for _, index in named]], [letter for letter, _ in named]
    size = (grid.panel, grid.height)
    write_labels(axes, size, places, letters, points, LETTER_POINTS, clear=1.0, weight="bold", backed=True)


def _write_key(figure: Figure, top: float, pairs: pd.DataFrame, key: Key, step: float) -> None:
    """Name the lettered pairs; the two groups are `step` millimetres apart, or below each other if it is 0."""
    groups = [(title, group) for title, group in zip(("most divergent", "most similar"), key, strict=True) if group]
    line = 0
    for column, (title, group) in enumerate(groups):
        left, line = (MARGIN + column * step, 0) if step else (MARGIN, line)
        add_text(figure, left, top + line * LINE, title, size=KEY_POINTS, color=MUTED)
        for letter, index in group:
            line += 1
            pair = pairs.iloc[index]
            names = f"{display_name(pair['source'])} – {display_name(pair['target'])}, {pair['js']:.3f} nats"
            add_text(figure, left, top + line * LINE, letter, size=KEY_POINTS, weight="bold", color=INK)
            add_text(figure, left + 2.2, top + line * LINE, names, size=KEY_POINTS, color=INK)
        line += 1
