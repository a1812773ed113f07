"""Pair panels of the drift figure: one grey line per pair; the pairs that moved most are coloured and labelled."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from persona_assets.presentation.layout.correlation import Floats
from persona_assets.presentation.layout.end_labels import EndLabel, write_end_labels
from persona_assets.presentation.layout.style import display_name
from persona_assets.presentation.layout.timeline import LINE_STYLES, Timeline

MOST_NAMED = 5
COLOURS = ("C0", "C1", "C2", "C3", "C4")
_SHAPES = "os^Dv"
_QUIET = "#c8c8c8"
_MANY = 300  # above this number of lines, a PDF stores them as an image

Pair = tuple[str, str]
# Estimate, low and high by pair and checkpoint.
Values = dict[Pair, dict[str, tuple[float, float, float]]]


def values_by_pair(levels: pd.DataFrame, quantity: str) -> Values:
    """Return one quantity of the drift's levels by pair (for rates: by persona or dyad) and checkpoint."""
    values: Values = {}
    of_quantity = levels[levels["quantity"] == quantity]
    columns = of_quantity[["a", "b", "checkpoint", "estimate", "low", "high"]]
    for a, b, checkpoint, *numbers in columns.itertuples(index=False, name=None):
        values.setdefault((str(a), str(b)), {})[str(checkpoint)] = (numbers[0], numbers[1], numbers[2])
    return values


def most_moved(values: Values, time: Timeline) -> list[tuple[Pair, int, float]]:
    """Return the pairs that moved most between the ends of a path: pair, number of the path, change.

    If nothing is compared, return the pairs with the highest values and a change of NaN.
    """
    moves = list[tuple[Pair, int, float]]()
    for pair, at in values.items():
        for number, path in enumerate(time.paths):
            shown = [at[name][0] for name in path.checkpoints if name in at and np.isfinite(at[name][0])]
            if len(shown) > 1:
                moves.append((pair, number, shown[-1] - shown[0]))
            elif shown and not time.lines():
                moves.append((pair, number, float("nan")))
    if any(np.isfinite(change) for _, _, change in moves):
        moves.sort(key=lambda move: -abs(move[2]))
    else:
        moves.sort(key=lambda move: -np.nanmax([estimate for estimate, _, _ in values[move[0]].values()]))
    first = {pair: (pair, number, change) for pair, number, change in reversed(moves)}
    return [first[pair] for pair in dict.fromkeys(pair for pair, _, _ in moves)][:MOST_NAMED]


def draw_pairs(axes: Axes, unit: str, size: tuple[float, float], values: Values, time: Timeline, room: float) -> None:
    """Draw lines, bars and labels of one quantity.

    Args:
        axes, size: the axes and their size in millimetres.
        unit: label of the y axis.
        values: as returned by `values_by_pair`, not empty.
        time: positions of the checkpoints.
        room: millimetres available for names to the right of the axes.
    """
    named = most_moved(values, time)
    time.draw(axes, size[0])
    _draw_quiet(axes, values, {pair for pair, _, _ in named}, time)
    labels: list[EndLabel] = []
    for rank, (pair, mover, change) in enumerate(named):
        # Shift the bars of a checkpoint sideways, so that they do not overlap.
        aside = (rank - (len(named) - 1) / 2) * 0.009 * time.span()
        ends = list[tuple[float, bool, float]]()
        for number, path in enumerate(time.paths):
            places, shown = _along(values[pair], path.checkpoints, time)
            x, style = places + aside, LINE_STYLES[number % len(LINE_STYLES)]
            axes.vlines(x, shown[:, 1], shown[:, 2], color=COLOURS[rank], linewidth=0.7, alpha=0.55, zorder=2)
            axes.plot(
                x,
                shown[:, 0],
                color=COLOURS[rank],
                linestyle=style,
                linewidth=1.0,
                marker=_SHAPES[rank],
                markersize=2.6,
                markeredgewidth=0.0,
                zorder=3,
            )
            if len(x):
                ends.append((float(x[-1]), number == mover, float(shown[-1, 0])))
        # Label the line that ends last; among several, the one that moved most.
        across, _, up = max(ends)
        text = f"{display_name(pair[0])} – {display_name(pair[1])}" + (
            f" {signed(change)}" if np.isfinite(change) else ""
        )
        if len(time.lines()) > 1:
            text += f" ({mover + 1})"
        labels.append((text, COLOURS[rank], (across, up)))
    _set_height(axes, values)
    axes.set_ylabel(unit)
    write_end_labels(axes, size, labels, room)


def signed(change: float) -> str:
    """Format a change with its sign and three decimals, or two significant digits if it is small."""
    places = 3 if change == 0 or abs(change) >= 0.0095 else int(np.ceil(-np.log10(abs(change)))) + 1
    return f"{change:+.{min(places, 6)}f}".replace("-", "−")


def _draw_quiet(axes: Axes, values: Values, named: set[Pair], time: Timeline) -> None:
    for number, path in enumerate(time.paths):
        lines, alone = [], []
        for pair, at in values.items():
            if pair in named:
                continue
            places, shown = _along(at, path.checkpoints, time)
            if len(places) > 1:
                lines.append(np.column_stack([places, shown[:, 0]]))
            elif len(places):
                alone.append((places[0], shown[0, 0]))
        style = LINE_STYLES[number % len(LINE_STYLES)]
        many = len(lines) > _MANY
        bundle = LineCollection(lines, colors=_QUIET, linewidths=0.3 if many else 0.6, linestyles=style, zorder=1)
        bundle.set_rasterized(many)
        axes.add_collection(bundle)
        if alone:
            x, y = np.transpose(alone)
            axes.scatter(x, y, s=4, color=_QUIET, linewidths=0, zorder=1)


def _along(at: dict[str, tuple[float, float, float]], checkpoints: list[str], time: Timeline) -> tuple[Floats, Floats]:
    """Return the positions (n,) and the estimate, low, high (n, 3) of the checkpoints that have a value."""
    shown = [name for name in checkpoints if name in at and np.isfinite(at[name][0])]
    places = np.array([time.place[name] for name in shown], dtype=np.float64)
    return places, np.array([at[name] for name in shown], dtype=np.float64).reshape(-1, 3)


def _set_height(axes: Axes, values: Values) -> None:
    """Set the y limits: starting at 0 if that wastes little space, else close to the values."""
    everything = np.array([numbers for at in values.values() for numbers in at.values()], dtype=np.float64)
    finite = everything[np.isfinite(everything)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    axes.set_ylim(0.0 if 0 <= low < 0.4 * high else low - margin, high + margin)
    axes.locator_params(axis="y", nbins=5)
