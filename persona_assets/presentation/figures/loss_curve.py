"""Training loss and learning rate of a marker adapter."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from persona_assets.presentation.layout.correlation import Floats, numbers
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MUTED,
    ONE_COLUMN,
    add_axes,
    add_text,
    house_style,
    new_figure,
)

# Millimetres.
_MARGIN, _LEFT, _RIGHT, _HEADER, _LOSS, _GAP, _RATE, _X_AXIS = 2.0, 14.0, 3.0, 11.0, 34.0, 4.5, 11.0, 9.0


def loss_curve(log: pd.DataFrame) -> Figure:
    """Draw the training loss of every optimiser step, with the learning rate in a small panel below.

    Args:
        log: one row per step: `step` (int), `loss` (nats per token), `learning_rate`.

    Raises:
        ValueError: a column is missing, or there are no steps.
    """
    if log.empty or not {"step", "loss", "learning_rate"} <= set(log.columns):
        raise ValueError(
            f"log: found {len(log)} rows of {list(log.columns)}; expected one row per step: step, loss, learning_rate"
        )
    steps = log.sort_values("step", kind="stable")
    step, loss, rate = (numbers(steps[name]) for name in ("step", "loss", "learning_rate"))
    marker = "o" if len(steps) <= 40 else ""
    margin = max(0.02 * float(step[-1] - step[0]), 0.4)
    with house_style():
        figure = new_figure(ONE_COLUMN, _HEADER + _LOSS + _GAP + _RATE + _X_AXIS)
        add_text(figure, _MARGIN, _MARGIN, "Training loss", weight="bold", size=8, color=INK)
        add_text(figure, _MARGIN, _MARGIN + 4.2, _subtitle(loss, rate), size=6.5, color=MUTED)
        width = ONE_COLUMN - _LEFT - _RIGHT
        losses = add_axes(figure, _LEFT, _HEADER, width, _LOSS)
        losses.plot(step, loss, color=BLUE, marker=marker, markersize=2)
        losses.set_ylim(0.0, 1.06 * float(np.nanmax(loss, initial=1e-6)))
        losses.set_ylabel("loss")
        losses.tick_params(labelbottom=False)
        rates = add_axes(figure, _LEFT, _HEADER + _LOSS + _GAP, width, _RATE)
        rates.plot(step, rate, color=MUTED, marker=marker, markersize=1.5)
        rates.set_ylim(0.0, 1.15 * float(np.nanmax(rate, initial=1e-12)))
        rates.set_xlabel("step")
        rates.set_ylabel("learning\nrate")
        rates.yaxis.set_major_locator(MaxNLocator(2))
        rates.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2))
        for axes in (losses, rates):
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
            axes.set_xlim(step[0] - margin, step[-1] + margin)
            axes.yaxis.set_label_coords(-0.1, 0.5)
    return figure


def _subtitle(loss: Floats, rate: Floats) -> str:
    steps = f"{len(loss)} step" + "s" * (len(loss) != 1)
    return f"{steps} · loss {loss[0]:.2g} → {loss[-1]:.2g} · learning rate up to {np.nanmax(rate, initial=0.0):.2g}"
