"""Jinja filters and tests of the report's templates."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from persona_assets.presentation.layout.style import display_name
from persona_assets.presentation.report.links import Link
from persona_assets.presentation.report.text import marked, plain, visible
from persona_assets.presentation.summaries.statements import number, p_text


def nats(value: float) -> str:
    """Format with three decimals, four below 0.01 and two significant digits below 0.001."""
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.4f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def signed(value: float) -> str:
    """Format with two decimals and a Unicode minus sign."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def rate(value: float) -> str:
    """Format with two decimals."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def yes_or_no(value: Any) -> str:
    """Format a boolean that may be missing."""
    return "–" if pd.isna(value) else "yes" if value else "no"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "marked": marked,
    "nats": nats,
    "number": number,
    "p_text": p_text,
    "plain": plain,
    "rate": rate,
    "signed": signed,
    "display_name": display_name,
    "visible": visible,
    "yes_or_no": yes_or_no,
}
TESTS: Mapping[str, Callable[[Any], bool]] = {
    "link": lambda value: isinstance(value, Link),
    "listed": lambda value: isinstance(value, Sequence | set) and not isinstance(value, str | bytes),
}
