"""Checkpoints along an axis: by training step if every step is known, else by name in the given order."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from persona_assets.presentation.layout.style import display_name, text_width

_TICK_POINTS = 6.0
_APART = 2.0  # millimetres between two names

# One per series, repeated after four.
LINE_STYLES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.3)), (0, (5, 1.4, 1, 1.4)))


class Path(NamedTuple):
    """Checkpoints each compared with the previous one, and the series of the last one."""

    series: str
    checkpoints: list[str]


class Timeline(NamedTuple):
    """Positions of the checkpoints.

    Attributes:
        place: checkpoint → position on the axis: its step, or its number starting at 1.
        short: checkpoint → tick label: its step, its name or, if names are too long, its number.
        paths: every line to draw, then each checkpoint that is compared with none as its own path.
        by_step: whether positions are training steps.
        numbered: whether tick labels are numbers that a key has to explain.
    """

    place: dict[str, float]
    short: dict[str, str]
    paths: list[Path]
    by_step: bool
    numbered: bool

    def key(self, points: float, width: float) -> list[str]:
        """Return the key to the numbers in lines of `width` millimetres; empty if ticks are not numbered."""
        lines = list[str]()
        for entry in [f"{self.short[name]} {name}" for name in self.place] if self.numbered else []:
            longer = f"{lines[-1]} · {entry}" if lines else entry
            if lines and text_width(longer, points) <= width:
                lines[-1] = longer
            else:
                lines.append(entry)
        return lines

    def lines(self) -> list[Path]:
        """Return the paths with at least two checkpoints."""
        return [path for path in self.paths if len(path.checkpoints) > 1]

    def span(self) -> float:
        """Return the range of the positions, or 1 if it is zero."""
        return float(np.ptp(list(self.place.values()))) or 1.0

    def draw(self, axes: Axes, width: float) -> None:
        """Set ticks, limits and label of an x axis that is `width` millimetres long."""
        places = list(self.place.values())
        margin = 0.06 * self.span() if len(set(places)) > 1 else 0.5
        axes.set_xlim(min(places) - margin, max(places) + margin)
        if self.by_step:
            self._tick_steps(axes, width)
        else:
            axes.set_xticks(places, [self.short[name] for name in self.place])
        axes.set_xlabel("training step" if self.by_step else "checkpoint")

    def _tick_steps(self, axes: Axes, width: float) -> None:
        """Put ticks at the checkpoints, or at round numbers if those would overlap."""
        steps = {self.place[name]: self.short[name] for name in sorted(self.place, key=lambda name: self.place[name])}
        left, right = axes.get_xlim()
        for (low, first), (high, second) in itertools.pairwise(steps.items()):
            needed = (text_width(first, _TICK_POINTS) + text_width(second, _TICK_POINTS)) / 2 + _APART
            if (high - low) / (right - left) * width < needed:
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
                return
        axes.set_xticks(list(steps), list(steps.values()))


def timeline(levels: pd.DataFrame, distances: pd.DataFrame, width: float) -> Timeline:
    """Lay out the checkpoints of a drift.

    Args:
        levels: columns checkpoint, series, step, in the order of display.
        distances: columns checkpoint, previous: which checkpoints are compared.
        width: length of the axis in millimetres; names that would overlap are replaced by numbers.
    """
    checkpoints = levels.drop_duplicates("checkpoint")
    names = [str(name) for name in checkpoints["checkpoint"]]
    steps = checkpoints["step"].to_numpy(dtype=float)
    by_step = bool(np.isfinite(steps).all())
    places = steps if by_step else np.arange(1.0, len(names) + 1)
    room = width / max(1, len(names)) - _APART
    numbered = not by_step and any(text_width(name, _TICK_POINTS) > room for name in names)
    if by_step:
        short = [f"{step:g}" for step in steps]
    else:
        short = [str(number) for number in range(1, len(names) + 1)] if numbered else names
    series = dict(zip(names, checkpoints["series"].fillna("").astype(str), strict=True))
    return Timeline(
        place=dict(zip(names, places.tolist(), strict=True)),
        short=dict(zip(names, short, strict=True)),
        paths=_paths(names, series, distances),
        by_step=by_step,
        numbered=numbered,
    )


def series_names(paths: list[Path]) -> list[str]:
    """Return the name of each path: its series, or its last checkpoint if it has none."""
    return [display_name(path.series) if path.series else path.checkpoints[-1] for path in paths]


def numbered_series(time: Timeline) -> list[str]:
    """Return the series of every line, each with its number in the legend."""
    return [f"{number} {name}" for number, name in enumerate(series_names(time.lines()), start=1)]


def edges(paths: list[Path]) -> list[tuple[int, str, str]]:
    """Return every comparison once: number of the path, previous checkpoint, checkpoint."""
    seen: dict[tuple[str, str], int] = {}
    for number, path in enumerate(paths):
        for before, after in itertools.pairwise(path.checkpoints):
            seen.setdefault((before, after), number)
    return [(number, before, after) for (before, after), number in seen.items()]


def _paths(names: list[str], series: dict[str, str], distances: pd.DataFrame) -> list[Path]:
    """Return the paths that end at checkpoints without a successor, each traced back to its first checkpoint."""
    before = {
        str(name): str(previous) for name, previous in zip(distances["checkpoint"], distances["previous"], strict=True)
    }
    last = [name for name in names if name not in set(before.values())]
    paths = []
    for name in last:
        path = [name]
        while (previous := before.get(path[-1])) is not None and previous not in path and previous in series:
            path.append(previous)
        paths.append(Path(series[name], path[::-1]))
    return sorted(paths, key=lambda path: len(path.checkpoints) == 1)
