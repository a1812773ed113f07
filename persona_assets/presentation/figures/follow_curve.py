"""Expected rate of every target in the course of training a marker into a source."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persona_assets.presentation.layout.correlation import numbers
from persona_assets.presentation.layout.end_labels import EndLabel, write_end_labels
from persona_assets.presentation.layout.panels import LETTER_POINTS, LINE, MARGIN, TITLE, write_lines
from persona_assets.presentation.layout.style import (
    INK,
    ONE_COLUMN,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    wrapped,
)

# Millimetres.
_LEFT, _LABELS, _BELOW, _HEIGHT, _PER_TARGET = 12.0, 28.0, 9.0, 46.0, 3.6
_COLOURS = ("C0", "C1", "C2", "C4", "C5", "C6")
_NEEDED = {"step", "target", "expected_rate"}


def follow_curve(followed: pd.DataFrame, source: str) -> Figure:
    """Draw the expected rate of every target after every followed training step; the source's own line is thick.

    Args:
        followed: one row per step, target and, if there are several, training `seed`: `step` (int), `target`,
            `expected_rate`. Seeds are averaged.
        source: the persona that the marker is trained into.

    Raises:
        ValueError: a column is missing, or there are no rows.
    """
    if followed.empty or not set(followed.columns) >= _NEEDED:
        raise ValueError(
            f"followed: found {len(followed)} rows of {list(followed.columns)}; expected one row per step and target: "
            "step, target, expected_rate"
        )
    rates = followed.groupby(["target", "step"], sort=False)["expected_rate"].mean().reset_index()
    last = rates.sort_values("step", kind="stable").groupby("target", sort=False)["expected_rate"].last()
    targets = [str(name) for name in last.sort_values(ascending=False, kind="stable").index]
    seeds = followed["seed"].nunique() if "seed" in followed else 1
    said = f"marker trained into {display_name(source)} (thick line)" + f" · mean of {seeds} seeds" * (seeds > 1)
    subtitle = wrapped(said, LETTER_POINTS, ONE_COLUMN - 2 * MARGIN)
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    width, height = ONE_COLUMN - _LEFT - _LABELS, max(_HEIGHT, len(targets) * _PER_TARGET)
    with house_style():
        figure = new_figure(ONE_COLUMN, top + height + _BELOW)
        add_text(figure, MARGIN, MARGIN, "Leakage during training", weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, LETTER_POINTS)
        axes = add_axes(figure, _LEFT, top, width, height)
        labels: list[EndLabel] = []
        for number, target in enumerate(targets):
            own = rates[rates["target"] == target].sort_values("step", kind="stable")
            step, rate = numbers(own["step"]), numbers(own["expected_rate"])
            colour = INK if target == source else _COLOURS[number % len(_COLOURS)]
            axes.plot(step, rate, color=colour, linewidth=1.6 if target == source else 0.8, zorder=2, clip_on=False)
            labels.append((display_name(target), colour, (float(step[-1]), float(rate[-1]))))
        steps = numbers(rates["step"])
        axes.set_xlim(float(steps.min()), float(steps.max()) + (steps.min() == steps.max()))
        axes.set_ylim(0.0, min(1.0, 1.06 * float(np.nanmax(numbers(rates["expected_rate"]), initial=0.01))))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_xlabel("training step")
        axes.set_ylabel("expected rate")
        write_end_labels(axes, (width, height), labels, _LABELS)
    return figure
