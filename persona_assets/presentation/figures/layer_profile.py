"""Correlation of leakage with cosine by layer and centring population, compared with JS."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from persona_assets.presentation.layout.correlation import numbers
from persona_assets.presentation.layout.end_labels import EndLabel, write_end_labels
from persona_assets.presentation.layout.pairs import cosine_columns
from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    TWO_COLUMNS,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    wrapped,
)

# Millimetres.
_LEFT, _HEIGHT, _BELOW, _LABELS = 13.0, 46.0, 10.0, 22.0
_COLOURS, _SHAPES = ("C1", "C2", "C3", "C4", "C6"), "Ds^vP"


def profile(statements: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman of leakage with JS and every cosine that has an estimate.

    Args:
        statements: as returned by `statistics.infer`.

    Returns:
        Columns predictor, population and layer (missing for JS), strength, low, high: the coefficient and its dyadic
        interval, with signs flipped for JS, whose hypothesis is negative.
    """
    asked = (statements["family"] == "leakage") & (statements["quantity"] == "spearman") & (statements["given"] == "")
    rows = statements[asked & (statements["view"] == "dyadic") & statements["estimate"].notna()]
    known = {cosine.column: cosine for cosine in cosine_columns(pd.DataFrame(columns=rows["predictor"].unique()))}
    found = []
    for row in rows.to_dict("records"):
        name = str(row["predictor"])
        if name != "js" and name not in known:
            continue
        limits = (-row["high"], -row["low"]) if name == "js" else (row["low"], row["high"])
        strength = -row["estimate"] if name == "js" else row["estimate"]
        place = (known[name].population, known[name].layer) if name in known else (None, np.nan)
        found.append((name, *place, strength, *limits))
    return pd.DataFrame(found, columns=["predictor", "population", "layer", "strength", "low", "high"])


def layer_profile(statements: pd.DataFrame, primary: str = "", width: float = ONE_COLUMN) -> Figure:
    """Draw Spearman's ρ of leakage with cosine by layer, one line per centring population, and JS as a horizontal line.

    Args:
        statements: as returned by `statistics.infer`.
        primary: column of the cosine that the verdict is about; it is ringed.
        width: width of the figure, in millimetres.

    Raises:
        ValueError: no cosine has an estimate.
    """
    table = profile(statements)
    cosines = table[table["layer"].notna()]
    if cosines.empty:
        raise ValueError("statements: found no Spearman of leakage with a cosine; expected at least one layer")
    said = "Spearman’s ρ, JS with its sign turned · bars and band: dyadic 95 % intervals"
    said += " · ringed: the cosine of the verdict" if primary in set(cosines["predictor"]) else ""
    subtitle = wrapped(said, KEY_POINTS, width - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    size = (width - _LEFT - _LABELS - MARGIN, _HEIGHT if width < TWO_COLUMNS else 1.2 * _HEIGHT)
    with house_style():
        figure = new_figure(width, top + size[1] + _BELOW)
        add_text(figure, MARGIN, MARGIN, "Leakage and cosine, layer by layer", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        _draw(add_axes(figure, _LEFT, top, *size), size, table, primary)
    return figure


def _draw(axes: Axes, size: tuple[float, float], table: pd.DataFrame, primary: str) -> None:
    cosines = table[table["layer"].notna()]
    layers = sorted(set(cosines["layer"].astype(int)))
    span = max(layers[-1] - layers[0], 4)
    right = layers[-1] + 0.08 * span
    axes.set_xlim(layers[0] - 0.08 * span, right)
    labels: list[EndLabel] = []
    for row in table[table["predictor"] == "js"].to_dict("records"):
        if np.isfinite(row["low"]):
            axes.axhspan(row["low"], row["high"], color=BLUE, alpha=0.12, linewidth=0, zorder=0)
        axes.axhline(row["strength"], color=BLUE, linewidth=1.1, zorder=1)
        labels.append(("JS", BLUE, (right, row["strength"])))
    populations = list(dict.fromkeys(cosines["population"]))
    for number, population in enumerate(populations):
        own = cosines[cosines["population"] == population].sort_values("layer")
        colour, shape = _COLOURS[number % len(_COLOURS)], _SHAPES[number % len(_SHAPES)]
        x = numbers(own["layer"]) + (number - (len(populations) - 1) / 2) * 0.025 * span
        strength, low, high = (numbers(own[name]) for name in ("strength", "low", "high"))
        axes.vlines(x, low, high, color=colour, linewidth=0.8, alpha=0.6, zorder=2)
        axes.plot(x, strength, color=colour, marker=shape, markersize=3.4, linewidth=1.0, zorder=3)
        chosen = (own["predictor"] == primary).to_numpy(dtype=bool)
        axes.scatter(x[chosen], strength[chosen], s=46, facecolors="none", edgecolors=INK, linewidths=0.8, zorder=4)
        labels.append(
            (f"cosine, centred on {display_name(str(population))}", colour, (float(x[-1]), float(strength[-1])))
        )
    everything = numbers(pd.concat([table["low"], table["high"], table["strength"]]))
    lowest, highest = min(0.0, float(np.nanmin(everything))), max(0.0, float(np.nanmax(everything)))
    margin = 0.07 * (highest - lowest)
    axes.set_ylim(lowest - margin if lowest < 0 else 0.0, min(1.0, highest + margin))
    if lowest < 0:
        axes.axhline(0, color=MUTED, linewidth=0.5, zorder=0)
    axes.set_xticks(layers)
    axes.set_xlabel("layer (decoder block)")
    axes.set_ylabel("ρ, up: likeness leaks")
    write_end_labels(axes, size, labels, _LABELS)
