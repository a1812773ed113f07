"""Leakage panel of the drift figure: source rates, mean rate over dyads, and base rates."""

import numpy as np
from matplotlib.axes import Axes

from persona_assets.presentation.drift.pairs import Values
from persona_assets.presentation.layout.end_labels import EndLabel, write_end_labels
from persona_assets.presentation.layout.style import BLUE, ORANGE, display_name
from persona_assets.presentation.layout.timeline import LINE_STYLES, Timeline

_NAMED_SOURCES = 3
_BASE = "#9a9a9a"


def draw_leakage(axes: Axes, size: tuple[float, float], rates: dict[str, Values], time: Timeline, room: float) -> None:
    """Draw rates with their intervals.

    Args:
        axes, size: the axes and their size in millimetres.
        rates: source_rate, mean_leakage_rate, base_rate and leakage_rate (only its dyads are counted) →
            `values_by_pair`.
        time: positions of the checkpoints.
        room: millimetres available for labels to the right of the axes.
    """
    time.draw(axes, size[0])
    sources, bases, dyads = rates["source_rate"], rates["base_rate"], len(rates["leakage_rate"])
    labels: list[EndLabel] = []
    for values, colour, shape, width, alpha in (
        (bases, _BASE, "v", 0.5, 0.45),
        (sources, ORANGE, "s", 0.9, 0.6),
        (rates["mean_leakage_rate"], BLUE, "o", 1.2, 0.8),
    ):
        ends: list[tuple[str, tuple[float, float]]] = []
        for rank, ((persona, _), at) in enumerate(values.items()):
            aside = (rank - (len(values) - 1) / 2) * 0.05 * time.span() / max(5, len(values))
            for number, path in enumerate(time.paths):
                shown = [name for name in path.checkpoints if name in at]
                if not shown:
                    continue
                x = np.array([time.place[name] for name in shown]) + aside
                estimate, low, high = np.array([at[name] for name in shown]).T
                axes.vlines(x, low, high, color=colour, linewidth=0.7, alpha=alpha, zorder=1 + width)
                style = LINE_STYLES[number % len(LINE_STYLES)]
                axes.plot(
                    x,
                    estimate,
                    color=colour,
                    lw=width,
                    linestyle=style,
                    zorder=2 + width,
                    clip_on=False,
                    marker=shape,
                    markersize=2.6,
                    markeredgewidth=0.0,
                )
                ends.append((persona, (float(x[-1]), float(estimate[-1]))))
        # The label belongs to the line that ends last; other series differ by line style.
        ends.sort(key=lambda end: end[1][0])
        labels += _labels(values is sources, values is bases, ends, colour, len(values), dyads)
    top = max((high for values in rates.values() for at in values.values() for _, _, high in at.values()), default=1.0)
    axes.set_ylim(-0.02, min(1.02, 1.06 * top))
    axes.locator_params(axis="y", nbins=5)
    axes.set_ylabel("rate (found / total)")
    write_end_labels(axes, size, labels, room)


def _labels(
    of_sources: bool, of_bases: bool, ends: list[tuple[str, tuple[float, float]]], colour: str, count: int, dyads: int
) -> list[EndLabel]:
    """Return one label per source if they are few, else a common one; and one label for each other rate."""
    if not ends:
        return []
    last = dict(ends)
    up = float(np.median([end[1] for end in last.values()]))
    # Use the line end nearest to the median, so that the leader starts at a line.
    middle = min(last.values(), key=lambda end: abs(end[1] - up))
    if of_sources and count <= _NAMED_SOURCES:
        return [(f"source rate: {display_name(persona)} on itself", colour, end) for persona, end in last.items()]
    if of_sources:
        return [(f"source rates of {count} sources", colour, middle)]
    if of_bases:
        everyone: EndLabel = (f"base rate, no adapter, {count} target{'s' * (count != 1)}", colour, middle)
        # A base rate above all others belongs to a persona that the checkpoint's own training taught the marker.
        highest = max(last, key=lambda persona: last[persona][1])
        above = last[highest][1] > max((end[1] for name, end in last.items() if name != highest), default=1.0)
        return [everyone, *([(f"base rate of {display_name(highest)}", colour, last[highest])] if above else [])]
    return [(f"leakage rate, mean of {dyads} dyad{'s' * (dyads != 1)}", colour, middle)]
