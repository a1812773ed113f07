"""Leakage within each source: does a source leak more to more similar personas?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from persona_assets.presentation.figures.leakage_scatter import marker_style, outcome_limits
from persona_assets.presentation.layout.correlation import numbers, rho_text
from persona_assets.presentation.layout.outcomes import SAMPLED, Outcome, chosen_outcome
from persona_assets.presentation.layout.pairs import cosine_columns
from persona_assets.presentation.layout.panels import (
    KEY_POINTS,
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
    add_text,
    display_name,
    house_style,
    new_figure,
    wrapped,
)
from persona_assets.presentation.summaries.leakage_headline import leakage_dyads

_HEIGHT, _GAP = 27.0, 3.0
_FEWEST_ABREAST, _MOST_ABREAST = 3, 6
_OTHERS = "#dedede"


def leakage_by_source(
    pair_table: pd.DataFrame,
    sources: Sequence[str],
    cosine: str | None = None,
    width: float = TWO_COLUMNS,
    outcome: str = "",
) -> Figure:
    """Draw a small panel per source and predictor, the source's dyads in colour and all others in grey.

    Args:
        pair_table: as in `leakage_against_predictors`.
        sources: the sources in the common order, which determines their colours.
        cosine: column to show below JS, or next to it if the figure has one column.
        width: maximum width, in millimetres.
        outcome: its column; by default the first one that was measured.

    Raises:
        ValueError: no dyad of these sources has the outcome, or the table has no such cosine.
    """
    chosen = chosen_outcome(pair_table, outcome)
    dyads = leakage_dyads(pair_table, chosen.column)
    dyads = dyads[dyads["source"].isin(list(sources))]
    if dyads.empty:
        raise ValueError(f"pair_table: no dyad of sources {list(sources)} has a {chosen.column}; expected at least one")
    named = {column.column: column for column in cosine_columns(pair_table)}
    if cosine is not None and cosine not in named:
        raise ValueError(f"cosine: found {cosine!r}; expected one of {list(named)}")
    predictors = ["js", *([cosine] if cosine else [])]
    labels = {"js": "JS (nats)"}
    if cosine:
        labels[cosine] = f"cosine, layer {named[cosine].layer}"
    width = ONE_COLUMN if len(sources) == 1 else width
    abreast = width > ONE_COLUMN and _FEWEST_ABREAST <= len(sources) <= _MOST_ABREAST
    columns = len(sources) if abreast else (4 if width > ONE_COLUMN else 2) // (3 - len(predictors))
    order = [(source, name) for source in sources for name in predictors]
    if abreast:
        order.sort(key=lambda panel: predictors.index(panel[1]))
    said = f"{len(dyads)} dyads · bars: {chosen.bars} · grey: the other sources’ dyads · ρ within the source"
    subtitle = wrapped(said, KEY_POINTS, width - 2 * MARGIN)
    grid = Grid(width, columns, MARGIN + TITLE + len(subtitle) * LINE + 2.0, height=_HEIGHT, gap=_GAP)
    with house_style():
        figure = new_figure(width, grid.below(grid.rows(len(order))) + MARGIN / 2)
        title = "Leakage within each source" + ("" if chosen is SAMPLED else f": {chosen.name}")
        add_text(figure, MARGIN, MARGIN, title, weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        for index, (source, name) in enumerate(order):
            _panel(figure, grid, index, dyads, chosen, (source, name), list(sources).index(source), labels[name])
    return figure


def _panel(
    figure: Figure,
    grid: Grid,
    index: int,
    dyads: pd.DataFrame,
    outcome: Outcome,
    panel: tuple[str, str],
    number: int,
    label: str,
) -> None:
    source, predictor = panel
    colour, shape = marker_style(number)
    of_source = (dyads["source"] == source).to_numpy(dtype=bool)
    x, y, low, high = (numbers(dyads[name]) for name in (predictor, outcome.column, outcome.low, outcome.high))
    said = rho_text(x[of_source], y[of_source]).replace("Spearman ", "").replace(" (no spread)", "")
    axes = add_panel(figure, grid, index, display_name(source), [said], x)
    axes.scatter(x[~of_source], y[~of_source], s=5, color=_OTHERS, linewidths=0, zorder=0, clip_on=False)
    axes.vlines(x[of_source], low[of_source], high[of_source], color=colour, alpha=0.5, linewidth=0.7, zorder=1)
    axes.scatter(
        x[of_source],
        y[of_source],
        s=16,
        marker=shape,
        color=colour,
        edgecolors="white",
        linewidths=0.3,
        zorder=2,
        clip_on=False,
    )
    axes.set(xlim=padded(x, 0.09), ylim=outcome_limits(dyads, outcome))
    axes.locator_params(axis="x", nbins=3)
    axes.locator_params(axis="y", nbins=4)
    axes.set_xlabel(label)
    first = index % grid.columns == 0
    axes.tick_params(labelleft=first)
    if first:
        axes.set_ylabel(outcome.short)
    if not np.isfinite(x[of_source]).any():
        axes.text(0.5, 0.5, "not known", transform=axes.transAxes, ha="center", va="center", size=KEY_POINTS)
