"""The look of every figure: one style file, applied while a figure is drawn and while it is written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

# Widths of a journal's page, and what else is measured, in millimetres.
ONE_COLUMN = 89.0
TWO_COLUMNS = 183.0
MM_PER_INCH = 25.4
MM_PER_POINT = MM_PER_INCH / 72

INK = "#1a1a1a"
MUTED = "#5c5c5c"
BLUE = "#0072B2"
ORANGE = "#D55E00"

# Letters that a screen's pixels are set to may take a little more than their outlines.
_SET = 0.97
_STYLE_FILE = Path(__file__).with_name("persona_assets.mplstyle")
# matplotlib's settings belong to the process; the lock keeps two threads from drawing in one another's style.
_LOCK = threading.RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the project's style over matplotlib's defaults, whatever the user's own matplotlibrc says."""
    with _LOCK, style.context(_STYLE_FILE, after_reset=True):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width × height millimetres that no pyplot state knows of."""
    return Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH))


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes placed in millimetres from the figure's upper left corner."""
    full_width, full_height = (inches * MM_PER_INCH for inches in figure.get_size_inches())
    bottom = full_height - top - height
    return figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))


def add_text(figure: Figure, left: float, top: float, text: str, **properties: Any) -> None:
    """Text whose upper left corner is placed in millimetres from the figure's upper left corner."""
    full_width, full_height = (inches * MM_PER_INCH for inches in figure.get_size_inches())
    figure.text(left / full_width, 1 - top / full_height, text, **({"ha": "left", "va": "top"} | properties))


def wrapped(text: str, points: float, width: float) -> list[str]:
    """Break a line of text so that no part is wider than `width` millimetres, unless a single word is."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, points) > _SET * width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@cache
def text_width(text: str, points: float, weight: str = "normal") -> float:
    """Width of a line of text in millimetres, at a font size in points."""
    font = FontProperties(family="DejaVu Sans", weight=weight, size=points)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) * MM_PER_POINT


def spoken(name: str) -> str:
    """A persona's or population's name as a reader sees it: underscores become spaces."""
    return name.replace("_", " ")


def readable_on(colour: tuple[float, float, float, float]) -> str:
    """Black or white, whichever stands out more (relative luminance as in WCAG 2, white from a little earlier)."""
    channels = np.asarray(colour[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "white" if luminance < 0.22 else INK
