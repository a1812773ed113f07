"""Specification curve: the result under every defensible choice.

Simonsohn, Simmons & Nelson 2020, Nature Human Behaviour 4, 1208–1214.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    TWO_COLUMNS,
    add_axes,
    add_text,
    house_style,
    new_figure,
    text_width,
    wrapped,
)
from persona_assets.presentation.summaries.statements import predictor_name

# Millimetres and points.
_CURVE, _GAP, _ROW, _ROW_POINTS = 38.0, 3.0, 2.9, 6.0
_RIGHT = 3.0
_COEFFICIENTS = {"spearman": "Spearman's ρ", "pearson": "Pearson's r", "kendall": "Kendall's τ"}


def specifications_of(statements: pd.DataFrame) -> pd.DataFrame:
    """Return the specifications that have an estimate, one row each.

    Args:
        statements: as returned by `statistics.infer`.

    Returns:
        Columns predictor, coefficient, dyads, strength and shown, sorted by strength. `strength` is the coefficient,
        with its sign flipped for JS, whose hypothesis is negative: positive means that more similar personas leak more.
        `shown`: whether the verdict is about this choice.
    """
    looks = statements[(statements["family"] == "looks") & statements["estimate"].notna()]
    parts = looks["quantity"].str.split(", ", n=1, expand=True).reindex(columns=[0, 1])
    of_js = ~looks["predictor"].str.startswith("cosine_")
    return (
        pd.DataFrame(
            {
                "predictor": looks["predictor"],
                "coefficient": parts[0],
                "dyads": parts[1],
                "strength": looks["estimate"].where(~of_js, -looks["estimate"]),
                "shown": looks["note"].fillna("") != "",
            }
        )
        .sort_values("strength", kind="stable")
        .reset_index(drop=True)
    )


def specification_curve(statements: pd.DataFrame, width: float = TWO_COLUMNS) -> Figure:
    """Draw the correlation of leakage with each predictor under every choice, sorted, above a matrix of the choices.

    Args:
        statements: as returned by `statistics.infer`.
        width: width of the figure, in millimetres.

    Raises:
        ValueError: no specification has an estimate.
    """
    table = specifications_of(statements)
    if table.empty:
        raise ValueError("statements: no row of family looks has an estimate; expected at least one specification")
    groups = {
        "predictor": {name: predictor_name(name) for name in dict.fromkeys(sorted(table["predictor"], key=_rank))},
        "coefficient": {name: _COEFFICIENTS[name] for name in _COEFFICIENTS if (table["coefficient"] == name).any()},
        "dyads": {name: name for name in sorted(set(table["dyads"]), key=lambda name: (name != "all dyads", name))},
    }
    names = [said for choices in groups.values() for said in choices.values()]
    left = MARGIN + max(text_width(said, _ROW_POINTS) for said in names) + 2.0
    across = width - left - _RIGHT
    positive = int((table["strength"] > 0).sum())
    said = (
        f"{len(table)} specifications; in {positive} of them more leaks between personas that are more alike · "
        "blue: JS, its sign turned · orange: cosine · ringed: what the verdict is about · "
        "specifications share their data, so their number proves nothing"
    )
    subtitle = wrapped(said, KEY_POINTS, width - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    rows = len(names) + len(groups)
    with house_style():
        figure = new_figure(width, top + _CURVE + _GAP + rows * _ROW + MARGIN)
        title = "Leakage and its predictors under every choice"
        add_text(figure, MARGIN, MARGIN, title, weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        _curve(add_axes(figure, left, top, across, _CURVE), table)
        choices = add_axes(figure, left, top + _CURVE + _GAP, across, rows * _ROW)
        choices.set(xlim=(-1, len(table)), ylim=(rows, 0))
        choices.set_axis_off()
        row = 0
        for column, said_of in groups.items():
            add_text(figure, MARGIN, top + _CURVE + _GAP + (row + 0.3) * _ROW, column, size=_ROW_POINTS, color=MUTED)
            row += 1
            for name, spelled in said_of.items():
                place = top + _CURVE + _GAP + (row + 0.5) * _ROW
                add_text(
                    figure, left - 2.0, place, spelled, size=_ROW_POINTS, color=INK, ha="right", va="center_baseline"
                )
                at = np.flatnonzero(table[column] == name)
                choices.axhline(row + 0.5, color="#ececec", linewidth=0.5, zorder=0)
                choices.vlines(at, row + 0.15, row + 0.85, color=_colours(table.iloc[at]), linewidth=0.9)
                row += 1
    return figure


def _curve(axes: Axes, table: pd.DataFrame) -> None:
    places, strength = np.arange(len(table)), table["strength"].to_numpy(dtype=float)
    axes.axhline(0, color=MUTED, linewidth=0.5, zorder=0)
    axes.scatter(places, strength, s=7, color=_colours(table), linewidths=0, zorder=2)
    shown = table["shown"].to_numpy(dtype=bool)
    axes.scatter(places[shown], strength[shown], s=34, facecolors="none", edgecolors=INK, linewidths=0.8, zorder=3)
    low, high = min(float(strength.min()), 0.0), max(float(strength.max()), 0.0)
    margin = 0.12 * (high - low) or 0.1
    axes.set(xlim=(-1, len(table)), ylim=(low - margin, high + margin))
    axes.tick_params(bottom=False, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    axes.set_ylabel("correlation,\nup: likeness leaks")


def _colours(table: pd.DataFrame) -> list[str]:
    return [ORANGE if str(name).startswith("cosine_") else BLUE for name in table["predictor"]]


def _rank(predictor: str) -> tuple[bool, str]:
    return predictor.startswith("cosine_"), predictor
