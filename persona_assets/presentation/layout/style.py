"""Common style of all figures, and helpers that place text and axes in millimetres."""

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

# Column widths of a journal page, in millimetres.
ONE_COLUMN = 89.0
TWO_COLUMNS = 183.0
MM_PER_INCH = 25.4
MM_PER_POINT = MM_PER_INCH / 72

INK = "#1a1a1a"
MUTED = "#5c5c5c"
BLUE = "#0072B2"
ORANGE = "#D55E00"

# Hinted text on a screen can be slightly wider than its outlines.
_SCREEN_SLACK = 0.97
_STYLE_FILE = Path(__file__).with_name("persona_assets.mplstyle")
# matplotlib's settings are global; the lock keeps threads from drawing with each other's style.
_LOCK = threading.RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Apply the project's style on top of matplotlib's defaults, ignoring the user's matplotlibrc."""
    with _LOCK, style.context(_STYLE_FILE, after_reset=True):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of width × height millimetres, outside pyplot's state."""
    return Figure(figsize=(width / MM_PER_INCH, height / MM_PER_INCH))


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes, placed in millimetres from the figure's upper left corner."""
    full_width, full_height = (inches * MM_PER_INCH for inches in figure.get_size_inches())
    bottom = full_height - top - height
    return figure.add_axes((left / full_width, bottom / full_height, width / full_width, height / full_height))


def add_text(figure: Figure, left: float, top: float, text: str, **properties: Any) -> None:
    """Add text whose upper left corner is placed in millimetres from the figure's upper left corner."""
    full_width, full_height = (inches * MM_PER_INCH for inches in figure.get_size_inches())
    figure.text(left / full_width, 1 - top / full_height, text, **({"ha": "left", "va": "top"} | properties))


def wrapped(text: str, points: float, width: float) -> list[str]:
    """Break text into lines of at most `width` millimetres; a longer single word gets its own line."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, points) > _SCREEN_SLACK * width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


@cache
def text_width(text: str, points: float, weight: str = "normal") -> float:
    """Return the width of a line of text in millimetres, at a font size in points."""
    font = FontProperties(family="DejaVu Sans", weight=weight, size=points)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) * MM_PER_POINT


def display_name(name: str) -> str:
    """Return the display name of a persona or population: underscores become spaces."""
    return name.replace("_", " ")


def readable_on(colour: tuple[float, float, float, float]) -> str:
    """Return the text colour with more contrast, by WCAG 2 luminance with a slight preference for white."""
    channels = np.asarray(colour[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "white" if luminance < 0.22 else INK
