"""Distance panel of the drift figure: each JS matrix compared with the previous one and with question noise."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from persona_assets.presentation.layout.correlation import Floats, numbers, p_text
from persona_assets.presentation.layout.end_labels import write_end_labels
from persona_assets.presentation.layout.style import BLUE, INK, MM_PER_POINT, MUTED, text_width
from persona_assets.presentation.layout.timeline import Timeline, edges, numbered_series

_POINTS = 6.0
_P_LINE = 2.4  # millimetres
_CLOSEST = 2.15
UNSURE = 0.05  # a larger p is drawn in grey
_FLOOR = "#dcdcdc"
_BETWEEN_PATHS = 0.6  # of a step's width


def draw_distances(axes: Axes, size: tuple[float, float], of_js: pd.DataFrame, time: Timeline, room: float) -> None:
    """Draw one point per step, with the question noise as a band below it and p above it.

    Args:
        axes, size: the axes and their size in millimetres.
        of_js: the drift's distances of JS, not empty.
        time: order of the checkpoints.
        room: millimetres available for labels to the right of the axes.
    """
    rows = of_js.set_index("checkpoint")
    steps = [(number, before, after) for number, before, after in edges(time.paths) if after in rows.index]
    at = rows.loc[[after for _, _, after in steps]]
    x = np.array([place + _BETWEEN_PATHS * path for place, (path, _, _) in enumerate(steps)], dtype=np.float64)
    rms, noise, excess, p = (numbers(at[name]) for name in ("rms_change", "noise", "excess", "p"))
    for place, floor in zip(x, noise, strict=True):
        if np.isfinite(floor):
            axes.add_patch(Rectangle((place - 0.5, 0.0), 1.0, floor, facecolor=_FLOOR, edgecolor="none", zorder=0))
            axes.plot([place - 0.5, place + 0.5], [floor, floor], color=MUTED, linewidth=0.6, zorder=1)
    colours = [MUTED if value > UNSURE else BLUE for value in p]
    axes.vlines(x, 0.0, rms, color=colours, linewidth=0.8, alpha=0.6, zorder=2)
    axes.scatter(x, rms, s=14, color=colours, linewidths=0, zorder=3)
    axes.scatter(
        x, excess, s=15, marker="D", facecolor="white", edgecolor=colours, linewidths=0.8, zorder=4, clip_on=False
    )
    axes.set_xlim(x[0] - 0.6, x[-1] + 0.6)
    slot = size[0] / (x[-1] - x[0] + 1.2)
    head = _write_p(axes, x, rms, p, slot)
    axes.set_ylim(0.0, float(np.nanmax(np.append(rms, noise), initial=1e-9)) / (1 - (head + 2.0) / size[1]))
    axes.locator_params(axis="y", nbins=5)
    axes.set_ylabel("rms change of JS (nats)")
    _name_steps(axes, steps, x, slot, time)
    last = float(x[-1])
    labels = [("found", colours[-1], (last, rms[-1])), ("noise taken out", colours[-1], (last, excess[-1]))]
    labels.append(("noise of the questions", MUTED, (last + 0.5, noise[-1])))
    write_end_labels(axes, size, [label for label in labels if np.isfinite(label[2][1])], room)
    _name_series(axes, steps, x, slot, time)


def smallest_p_text(of_js: pd.DataFrame) -> str:
    """Describe the smallest p that the test can reach, or its range if steps differ."""
    shown = sorted({float(value) for value in of_js["smallest_p"].dropna()})
    if not shown:
        return "p is unknown"
    ends = dict.fromkeys((shown[0], shown[-1]))
    return f"Smallest p attainable: {' to '.join(p_text(p) for p in ends)}"


def _write_p(axes: Axes, x: Floats, rms: Floats, p: Floats, slot: float) -> float:
    """Write p above the points in one line, two lines, rotated or not at all, as space allows; return the height."""
    texts, upright = [f"p = {p_text(value)}" for value in p], False
    if _widest(texts) + 1.0 > slot:
        texts = [f"p =\n{p_text(value)}" for value in p]
    if _widest(texts) + 1.0 > slot:
        texts, upright = [f"p = {p_text(value)}" for value in p], True
        if slot < _CLOSEST:
            return 0.0
    for place, top, text in zip(x, rms, texts, strict=True):
        axes.annotate(
            text,
            (place, top),
            xytext=(0, 3.5),
            textcoords="offset points",
            size=_POINTS,
            color=INK,
            ha="center",
            va="bottom",
            rotation=90 if upright else 0,
            linespacing=1.1,
        )
    return 3.5 * MM_PER_POINT + (_widest(texts) if upright else _P_LINE * (texts[0].count("\n") + 1))


def _widest(texts: list[str]) -> float:
    return max(text_width(line, _POINTS) for text in texts for line in text.split("\n"))


def _name_steps(axes: Axes, steps: list[tuple[int, str, str]], x: Floats, slot: float, time: Timeline) -> None:
    names = [f"{time.short[before]} → {time.short[after]}" for _, before, after in steps]
    if _widest(names) + 1.5 > slot:
        names = [time.short[after] for _, _, after in steps]
    level = _widest(names) + 1.0 <= slot
    every = 1 if level else int(np.ceil(_CLOSEST / slot))
    axes.set_xticks(x[::every], names[::every], rotation=0 if level else 90)
    noun = "step" if time.by_step else "checkpoint"
    axes.set_xlabel(f"from {noun} to {noun}" if "→" in names[0] else f"to {noun}, from the one before")


def _name_series(axes: Axes, steps: list[tuple[int, str, str]], x: Floats, slot: float, time: Timeline) -> None:
    """Write the name, or the legend number, of each series above its steps if there are several series."""
    names = numbered_series(time)
    own = {path: x[[number == path for number, _, _ in steps]] for path in dict.fromkeys(path for path, _, _ in steps)}
    if len(own) < 2:
        return
    fit = all(text_width(names[path], _POINTS) < len(places) * slot for path, places in own.items())
    for path, places in own.items():
        axes.text(
            places.mean(),
            1.0,
            names[path] if fit else names[path].split()[0],
            transform=axes.get_xaxis_transform(),
            size=_POINTS,
            color=MUTED,
            ha="center",
            va="bottom",
        )
