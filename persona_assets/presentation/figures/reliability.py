"""Reliability of every outcome, and its correlations before and after correction for attenuation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from persona_assets.presentation.layout.outcomes import OUTCOMES
from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    ORANGE,
    TWO_COLUMNS,
    add_axes,
    add_text,
    house_style,
    new_figure,
    text_width,
    wrapped,
)

# Millimetres and points.
_ROW, _POINTS, _HEAD, _BELOW, _GAP, _RIGHT = 8.0, 6.5, 5.5, 9.0, 8.0, 4.0
_RELIABILITIES = {
    "reliability, halves of questions": ("halves of the questions", "o", INK),
    "reliability, training seeds": ("training seeds", "s", MUTED),
    "reliability, questions and seeds": ("both", "D", "#009E73"),
}
_CORRECTED = "spearman corrected for attenuation"


def reliabilities_of(statements: pd.DataFrame) -> pd.DataFrame:
    """Return the reliabilities that have an estimate: columns outcome, quantity, estimate.

    Args:
        statements: as returned by `statistics.infer`.
    """
    rows = statements[statements["quantity"].isin(list(_RELIABILITIES)) & statements["estimate"].notna()]
    return rows.loc[rows["outcome"].isin(list(OUTCOMES)), ["outcome", "quantity", "estimate"]].reset_index(drop=True)


def corrected_of(statements: pd.DataFrame) -> pd.DataFrame:
    """Return |ρ| before and after correction: columns outcome, predictor, observed, corrected, low, high.

    The signs of JS, whose hypothesis is negative, are flipped.

    Args:
        statements: as returned by `statistics.infer`.
    """
    rho = statements[(statements["quantity"] == "spearman") & (statements["given"] == "")]
    observed = {(row["outcome"], row["predictor"]): row["estimate"] for row in rho.to_dict("records")}
    found = []
    for row in statements[statements["quantity"] == _CORRECTED].dropna(subset="estimate").to_dict("records"):
        sign = 1.0 if str(row["predictor"]).startswith("cosine_") else -1.0
        low, high = sorted((sign * row["low"], sign * row["high"]))
        before = sign * observed.get((row["outcome"], row["predictor"]), np.nan)
        found.append((row["outcome"], row["predictor"], before, sign * row["estimate"], low, high))
    return pd.DataFrame(found, columns=["outcome", "predictor", "observed", "corrected", "low", "high"])


def reliability_figure(statements: pd.DataFrame, width: float = TWO_COLUMNS) -> Figure:
    """Draw the reliabilities of every outcome, next to its correlations before and after correction for attenuation.

    Without corrected correlations, the figure is one column wide.

    Args:
        statements: as returned by `statistics.infer`.
        width: width of the figure, in millimetres.

    Raises:
        ValueError: no reliability has an estimate.
    """
    table, corrected = reliabilities_of(statements), corrected_of(statements)
    if table.empty:
        raise ValueError("statements: no reliability has an estimate; expected at least one")
    outcomes = [outcome for outcome in OUTCOMES.values() if (table["outcome"] == outcome.column).any()]
    left = MARGIN + max(text_width(outcome.name, _POINTS) for outcome in outcomes) + 2.5
    width = ONE_COLUMN if corrected.empty else width
    panel = width - left - _RIGHT if corrected.empty else (width - left - _GAP - _RIGHT) / 2
    said = "1: measuring again would order the dyads in the same way"
    if len(corrected):
        said += (
            " · hollow: ρ as measured, JS with its sign turned; filled: ρ divided by the root of the reliability, with "
            "its interval over sources (95 %)"
        )
    subtitle = wrapped(said, KEY_POINTS, width - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0 + _HEAD
    height = len(outcomes) * _ROW
    with house_style():
        figure = new_figure(width, top + height + _BELOW)
        add_text(figure, MARGIN, MARGIN, "Reliability of the outcomes", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        axes = _panel(figure, (left, top, panel, height))
        axes.set_xlim(min(0.0, float(table["estimate"].min()) - 0.05), 1.02)
        axes.set_xlabel("reliability")
        for row, outcome in enumerate(outcomes):
            middle = top + (row + 0.5) * _ROW
            add_text(
                figure, left - 2.5, middle, outcome.name, size=_POINTS, color=INK, ha="right", va="center_baseline"
            )
            _reliabilities(axes, row + 0.5, table[table["outcome"] == outcome.column])
        used = [style for name, style in _RELIABILITIES.items() if (table["quantity"] == name).any()]
        _legend(axes, used)
        if corrected.empty:
            return figure
        beside = _panel(figure, (left + panel + _GAP, top, panel, height))
        bounds = corrected[["observed", "corrected", "low", "high"]].to_numpy(dtype=np.float64)
        beside.set_xlim(min(0.0, float(np.nanmin(bounds, initial=0.0)) - 0.05), 1.02)
        beside.axvline(0, color=MUTED, linewidth=0.5, zorder=0)
        beside.set_xlabel("ρ with leakage, to the right: likeness leaks")
        for row, outcome in enumerate(outcomes):
            _correlations(beside, row + 0.5, corrected[corrected["outcome"] == outcome.column])
        _legend(beside, [("JS", "o", BLUE), ("cosine", "D", ORANGE)])
    return figure


def _panel(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    """Add a panel with one row of `_ROW` millimetres per outcome; `place` is left, top, width and height."""
    axes = add_axes(figure, *place)
    axes.set_ylim(place[3] / _ROW, 0)
    axes.tick_params(left=False, labelleft=False)
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=6)
    return axes


def _reliabilities(axes: Axes, middle: float, own: pd.DataFrame) -> None:
    axes.axhline(middle, color="#ececec", linewidth=0.5, zorder=0)
    for quantity, estimate in zip(own["quantity"], own["estimate"], strict=True):
        _, marker, colour = _RELIABILITIES[str(quantity)]
        axes.plot(estimate, middle, marker=marker, markersize=4, color=colour, clip_on=False, zorder=2)
        if quantity == next(iter(_RELIABILITIES)):
            place = (estimate, middle - 0.17)
            axes.text(*place, f"{estimate:.2f}".replace("-", "−"), size=KEY_POINTS, color=INK, ha="center", va="bottom")


def _correlations(axes: Axes, middle: float, own: pd.DataFrame) -> None:
    axes.axhline(middle, color="#ececec", linewidth=0.5, zorder=0)
    for row in own.to_dict("records"):
        is_cosine = str(row["predictor"]).startswith("cosine_")
        colour, marker, place = (ORANGE, "D", middle + 0.16) if is_cosine else (BLUE, "o", middle - 0.16)
        if np.isfinite(row["low"]):
            axes.hlines(place, row["low"], row["high"], color=colour, linewidth=0.8, alpha=0.6, zorder=1)
        style: dict[str, Any] = {
            "marker": marker,
            "markersize": 3.6,
            "color": colour,
            "linestyle": "none",
            "clip_on": False,
        }
        axes.plot(row["observed"], place, markerfacecolor="white", zorder=2, **style)
        axes.plot(row["corrected"], place, zorder=3, **style)


def _legend(axes: Axes, entries: Sequence[tuple[str, str, str]]) -> None:
    handles = [
        Line2D([], [], marker=marker, color=colour, linestyle="none", markersize=3.6, label=label)
        for label, marker, colour in entries
    ]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(handles),
        fontsize=KEY_POINTS,
        frameon=False,
        borderpad=0.2,
        borderaxespad=0.2,
        handletextpad=0.3,
        columnspacing=1.2,
    )
