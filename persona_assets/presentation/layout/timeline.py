"""Checkpoints along an axis: by training step where every step is known, else by name in the order given."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from persona_assets.presentation.layout.style import spoken, text_width

_TICK_POINTS = 6.0
_APART = 2.0  # millimetres between two names

# One a series; beyond four they begin again.
LINE_STYLES: tuple[Any, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.3)), (0, (5, 1.4, 1, 1.4)))


class Path(NamedTuple):
    """Checkpoints of which each is compared with the one before it, and the series that they end in."""

    series: str
    checkpoints: list[str]


class Timeline(NamedTuple):
    """Where every checkpoint stands.

    Attributes:
        place: checkpoint → place on the axis: its step, or its number from 1 on.
        short: checkpoint → what a tick says: its step, its name, or, where names are too long, its number.
        paths: every line to draw, then every checkpoint that is compared with none as a path of its own.
        by_step: whether places are training steps.
        numbered: whether ticks are numbers that a key must explain.
    """

    place: dict[str, float]
    short: dict[str, str]
    paths: list[Path]
    by_step: bool
    numbered: bool

    def key(self, points: float, width: float) -> list[str]:
        """What the numbers stand for, in lines of that many millimetres; none where ticks speak for themselves."""
        lines = list[str]()
        for entry in [f"{self.short[name]} {name}" for name in self.place] if self.numbered else []:
            longer = f"{lines[-1]} · {entry}" if lines else entry
            if lines and text_width(longer, points) <= width:
                lines[-1] = longer
            else:
                lines.append(entry)
        return lines

    def lines(self) -> list[Path]:
        """The paths of two checkpoints or more."""
        return [path for path in self.paths if len(path.checkpoints) > 1]

    def span(self) -> float:
        """How far the axis reaches, at least 1."""
        return float(np.ptp(list(self.place.values()))) or 1.0

    def draw(self, axes: Axes, width: float) -> None:
        """Ticks, limits and label of an x axis of that many millimetres."""
        places = list(self.place.values())
        margin = 0.06 * self.span() if len(set(places)) > 1 else 0.5
        axes.set_xlim(min(places) - margin, max(places) + margin)
        if self.by_step:
            self._tick_steps(axes, width)
        else:
            axes.set_xticks(places, [self.short[name] for name in self.place])
        axes.set_xlabel("training step" if self.by_step else "checkpoint")

    def _tick_steps(self, axes: Axes, width: float) -> None:
        """Ticks at the checkpoints themselves, or at round numbers where those would touch."""
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
        distances: columns checkpoint, previous: what is compared with what.
        width: of the axis in millimetres; names that would touch are replaced by numbers.
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
    """What to call each path: its series, or its last checkpoint where it has none."""
    return [spoken(path.series) if path.series else path.checkpoints[-1] for path in paths]


def numbered_series(time: Timeline) -> list[str]:
    """The series of every line, each with the number under which the legend of several has it."""
    return [f"{number} {name}" for number, name in enumerate(series_names(time.lines()), start=1)]


def edges(paths: list[Path]) -> list[tuple[int, str, str]]:
    """Every comparison once: number of the path, the checkpoint before, the checkpoint."""
    seen: dict[tuple[str, str], int] = {}
    for number, path in enumerate(paths):
        for before, after in itertools.pairwise(path.checkpoints):
            seen.setdefault((before, after), number)
    return [(number, before, after) for (before, after), number in seen.items()]


def _paths(names: list[str], series: dict[str, str], distances: pd.DataFrame) -> list[Path]:
    """From every checkpoint that no later one is compared with, back to the first."""
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
