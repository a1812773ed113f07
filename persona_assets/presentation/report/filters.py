"""How the report's templates write numbers and untrusted text."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from persona_assets.presentation.layout.style import spoken
from persona_assets.presentation.report.links import Link
from persona_assets.presentation.report.text import marked, plain, visible
from persona_assets.presentation.summaries.statements import number, p_text


def nats(value: float) -> str:
    """Three decimals, one more below 0.01, and two significant digits where those would leave less."""
    if math.isnan(value):
        return "–"
    if 0 < abs(value) < 0.001:
        return f"{value:.2g}"
    return f"{value:.4f}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


def signed(value: float) -> str:
    """Two decimals with a true minus."""
    return "–" if math.isnan(value) else f"{value:.2f}".replace("-", "−")


def rate(value: float) -> str:
    """Two decimals."""
    return "–" if math.isnan(value) else f"{value:.2f}"


def yes_or_no(value: Any) -> str:
    """A boolean that may be missing."""
    return "–" if pd.isna(value) else "yes" if value else "no"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "marked": marked,
    "nats": nats,
    "number": number,
    "p_text": p_text,
    "plain": plain,
    "rate": rate,
    "signed": signed,
    "spoken": spoken,
    "visible": visible,
    "yes_or_no": yes_or_no,
}
TESTS: Mapping[str, Callable[[Any], bool]] = {
    "link": lambda value: isinstance(value, Link),
    "listed": lambda value: isinstance(value, Sequence | set) and not isinstance(value, str | bytes),
}
