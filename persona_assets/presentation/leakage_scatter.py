"""Does the likeness of two personas predict how a marker leaks from one to the other?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from persona_assets.presentation.correlation import numbers
from persona_assets.presentation.leakage_headline import leakage_dyads
from persona_assets.presentation.pairs import CosineColumn, cosine_columns
from persona_assets.presentation.panels import (
    KEY_POINTS,
    LETTER_POINTS,
    LINE,
    MARGIN,
    ROW_HEIGHT,
    TITLE,
    add_panel,
    panel_place,
    panel_width,
    write_lines,
)
from persona_assets.presentation.style import (
    INK,
    ONE_COLUMN,
    TWO_COLUMNS,
    add_axes,
    add_text,
    house_style,
    new_figure,
    spoken,
    text_width,
    wrapped,
)

_LAYERS = 3
_COLOURS = 7  # of the house's cycle; with a number of shapes that is prime to it, 70 sources differ
_SHAPES = "os^DvPX<*>"
_SIZES = {"o": 15, "s": 13, "^": 17, "D": 11, "v": 17, "P": 19, "X": 19, "<": 17, "*": 26, ">": 17}

DYADS_NOT_INDEPENDENT = (
    "Dyads share sources and targets, so they are not independent: no p value from an iid test is printed."
)


def leakage_against_predictors(
    pair_table: pd.DataFrame, sources: Sequence[str] | None = None, layers: Sequence[int] | None = None
) -> Figure:
    """Leakage rate of every dyad against JS and against the cosine of the first centring population.

    Spearman's ρ is given with its n in every panel.

    Args:
        pair_table: one row a dyad: `source`, `target`, `js` (nats), cosines in `cosine_<population>_layer<N>`,
            `leakage_rate` with `leakage_low` and `leakage_high`, and `source_rate`; rows without a rate are left out.
        sources: the sources to show, in the legend's order; by default all, in the table's order.
        layers: the layers to show; by default all, or the first, the middle and the last of more than three.

    Raises:
        ValueError: no dyad of these sources has a rate, or no cosine is of these layers.
    """
    dyads = leakage_dyads(pair_table)
    shown = list(dict.fromkeys(dyads["source"])) if sources is None else [str(source) for source in sources]
    dyads = dyads[dyads["source"].isin(shown)]
    if dyads.empty:
        raise ValueError(f"pair_table: no dyad of sources {shown} has a leakage_rate; expected one at least")
    predictors: list[CosineColumn | None] = [None, *_cosines(pair_table, layers)]
    columns = {1: 1, 2: 2, 4: 2}.get(len(predictors), 3)
    width = ONE_COLUMN if columns == 1 else TWO_COLUMNS
    panel = panel_width(width, columns)
    rows = -(-len(predictors) // columns)
    subtitle = wrapped(_subtitle(dyads), LETTER_POINTS, width - 2 * MARGIN)
    warning = wrapped(DYADS_NOT_INDEPENDENT, KEY_POINTS, width - 2 * MARGIN)
    key = _key(dyads, shown, width - 2 * MARGIN)
    header = MARGIN + TITLE + (len(subtitle) + len(key)) * LINE + 4.0
    below = header + rows * ROW_HEIGHT
    with house_style():
        figure = new_figure(width, below + len(warning) * LINE + MARGIN)
        title = "Leakage against JS and cosine, one point a dyad" if len(predictors) > 1 else "Leakage against JS"
        add_text(figure, MARGIN, MARGIN, title, weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, LETTER_POINTS)
        for index, predictor in enumerate(predictors):
            row, column = divmod(index, columns)
            place = panel_place(header, panel, row, column)
            _panel(figure, place, panel, dyads, shown, predictor, first=column == 0)
        _write_key(figure, MARGIN + TITLE + len(subtitle) * LINE + 0.8, key, width)
        write_lines(figure, below + 0.2 * LINE, warning, KEY_POINTS)
    return figure


def _cosines(pair_table: pd.DataFrame, layers: Sequence[int] | None) -> list[CosineColumn]:
    """Of the first centring population: the layers asked for, or all, thinned to three."""
    found = cosine_columns(pair_table)
    first = [cosine for cosine in found if cosine.population == found[0].population]
    if layers is None:
        kept = np.unique(np.linspace(0, len(first) - 1, min(_LAYERS, len(first))).round().astype(int))
        return [first[index] for index in kept]
    chosen = [cosine for cosine in first if cosine.layer in set(layers)]
    if not chosen:
        raise ValueError(f"layers: found {list(layers)}; expected some of {[cosine.layer for cosine in first]}")
    return chosen


def _subtitle(dyads: pd.DataFrame) -> str:
    sources = dyads["source"].nunique()
    plurals = "s" * (len(dyads) != 1), "s" * (sources != 1)
    return f"{len(dyads)} dyad{plurals[0]} from {sources} source{plurals[1]} · bars: Wilson 95 % intervals"


def _panel(
    figure: Figure,
    place: tuple[float, float],
    width: float,
    dyads: pd.DataFrame,
    sources: Sequence[str],
    predictor: CosineColumn | None,
    first: bool,
) -> None:
    x = numbers(dyads[predictor.column if predictor else "js"])
    rate, low, high = (numbers(dyads[f"leakage_{name}"]) for name in ("rate", "low", "high"))
    title = f"cosine, layer {predictor.layer}" if predictor else "JS"
    axes = add_panel(figure, place, width, title, x, rate)
    for number, source in enumerate(sources):
        of_source = (dyads["source"] == source).to_numpy(dtype=bool)
        colour, shape = _look(number)
        axes.vlines(x[of_source], low[of_source], high[of_source], color=colour, alpha=0.35, linewidth=0.7, zorder=1)
        axes.scatter(
            x[of_source],
            rate[of_source],
            s=_SIZES[shape],
            marker=shape,
            color=colour,
            edgecolors="white",
            linewidths=0.35,
            zorder=2,
            clip_on=False,
        )
    top = min(1.0, 1.06 * float(np.nanmax(np.append(high, rate), initial=0.05)))
    axes.set_ylim(-0.025 * top, top)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel(f"cosine, centred on {spoken(predictor.population)}" if predictor else "JS (nats)")
    axes.tick_params(labelleft=first)
    if first:
        axes.set_ylabel("leakage rate (found / total)")


def _look(number: int) -> tuple[str, str]:
    return f"C{number % _COLOURS}", _SHAPES[number % len(_SHAPES)]


def _key(dyads: pd.DataFrame, sources: Sequence[str], width: float) -> list[list[tuple[int, str, float]]]:
    """Lines of the legend: number of the source, what it says, how far from the left (mm)."""
    own = {} if "source_rate" not in dyads else dyads.groupby("source")["source_rate"].first().dropna().to_dict()
    lines: list[list[tuple[int, str, float]]] = [[]]
    left = 0.0
    for number, source in enumerate(sources):
        text = spoken(source) + (f" (itself {float(own[source]):.2f})" if source in own else "")
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
            colour, shape = _look(number)
            middle = (line + 0.5) * LINE
            axes.scatter([MARGIN + left + 1.1], [middle], s=_SIZES[shape], marker=shape, color=colour, linewidths=0)
            axes.text(MARGIN + left + 3.2, middle, text, size=KEY_POINTS, color=INK, va="center_baseline")
