"""Influence of single sources and personas: the correlations after leaving each one out."""

import re

import pandas as pd
from matplotlib.figure import Figure

from persona_assets.presentation.figures.specification import specifications_of
from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    ORANGE,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    text_width,
    wrapped,
)
from persona_assets.presentation.summaries.statements import predictor_name

# Millimetres and points.
_ROW, _POINTS, _BELOW, _RIGHT = 3.4, 6.5, 9.0, 3.0
_LEFT_OUT = re.compile(r"spearman without (?P<kind>source|persona) (?P<who>.+)")


def left_out(statements: pd.DataFrame) -> pd.DataFrame:
    """Return Spearman without each source and persona; columns kind, who, predictor, strength (`specifications_of`)."""
    rows = []
    for row in statements[statements["family"] == "influence"].to_dict("records"):
        if match := _LEFT_OUT.fullmatch(str(row["quantity"])):
            sign = 1.0 if str(row["predictor"]).startswith("cosine_") else -1.0
            rows.append(match.groupdict() | {"predictor": row["predictor"], "strength": sign * float(row["estimate"])})
    return pd.DataFrame(rows, columns=["kind", "who", "predictor", "strength"])


def influence_figure(statements: pd.DataFrame) -> Figure:
    """Draw one row per omitted source or persona, one mark per predictor, and lines at the full-data values.

    Args:
        statements: as returned by `statistics.infer`.

    Raises:
        ValueError: there is no statement about influence.
    """
    table = left_out(statements)
    if table.empty:
        raise ValueError("statements: no row of family influence; expected Spearman without each persona")
    specifications = specifications_of(statements)
    shown = specifications[specifications["shown"]]
    everybody = dict(zip(map(str, shown["predictor"]), map(float, shown["strength"]), strict=True))
    predictors = [str(name) for name in dict.fromkeys(table["predictor"])]
    rows = _rows(table)
    names = [display_name(who) for _, who in rows if who]
    left = MARGIN + max(text_width(name, _POINTS) for name in names) + 2.0
    width = ONE_COLUMN - left - _RIGHT
    looks = {name: (BLUE, "o") if not name.startswith("cosine_") else (ORANGE, "D") for name in predictors}
    said = "Spearman's ρ with leakage, JS with its sign turned · lines: with everybody in · " + " · ".join(
        f"{'blue' if looks[name][0] == BLUE else 'orange'}: {predictor_name(name)}" for name in predictors
    )
    subtitle = wrapped(said, KEY_POINTS, ONE_COLUMN - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    with house_style():
        figure = new_figure(ONE_COLUMN, top + len(rows) * _ROW + _BELOW)
        add_text(figure, MARGIN, MARGIN, "Who carries the result", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        axes = add_axes(figure, left, top, width, len(rows) * _ROW)
        for name in everybody.keys() & looks.keys():
            axes.axvline(everybody[name], color=looks[name][0], linewidth=0.6, zorder=1)
        for place, (kind, who) in enumerate(rows):
            middle = top + (place + 0.5) * _ROW
            if who is None:
                add_text(figure, MARGIN, middle, f"without the {kind}", size=KEY_POINTS, color=MUTED, va="center")
                continue
            add_text(
                figure, left - 2.0, middle, display_name(who), size=_POINTS, color=INK, ha="right", va="center_baseline"
            )
            axes.axhline(place + 0.5, color="#ececec", linewidth=0.5, zorder=0)
            own = table[(table["kind"] == kind) & (table["who"] == who)]
            for name, strength in zip(own["predictor"], own["strength"], strict=True):
                colour, marker = looks[name]
                axes.plot(strength, place + 0.5, marker=marker, markersize=3.2, color=colour, zorder=2)
        axes.set_ylim(len(rows), 0)
        axes.margins(x=0.08)
        axes.tick_params(left=False, labelleft=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ρ, to the right: likeness leaks")
    return figure


def _rows(table: pd.DataFrame) -> list[tuple[str, str | None]]:
    """Return a heading row per kind, followed by its members, those that weaken JS most when omitted first."""
    rows: list[tuple[str, str | None]] = []
    for kind in ("source", "persona"):
        own = table[table["kind"] == kind]
        if len(own):
            rows.append((kind, None))
            first = own[own["predictor"] == own["predictor"].iloc[0]].sort_values("strength", kind="stable")
            rows += [(kind, str(who)) for who in first["who"]]
    return rows
