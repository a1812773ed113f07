"""Jinja filters and tests of the report's templates."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from persona_assets.presentation.layout.outcomes import Outcome
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


def outcome_value(value: float, outcome: Outcome) -> str:
    """Format a value of an outcome with its decimals and a Unicode minus sign."""
    return "–" if math.isnan(value) else f"{value:.{outcome.decimals}f}".replace("-", "−")


def share_or_dash(share: float, is_negative: Any) -> str:
    """Format the share of a trained negative in percent; "yes" if only that is known, a question mark if neither."""
    if pd.isna(is_negative):
        return "?"
    return "–" if not is_negative else "yes" if math.isnan(share) else f"{100 * share:.0f} %"


def yes_or_no(value: Any) -> str:
    """Format a boolean that may be missing."""
    return "–" if pd.isna(value) else "yes" if value else "no"


FILTERS: Mapping[str, Callable[..., Any]] = {
    "marked": marked,
    "nats": nats,
    "number": number,
    "p_text": p_text,
    "plain": plain,
    "outcome_value": outcome_value,
    "rate": rate,
    "share_or_dash": share_or_dash,
    "signed": signed,
    "display_name": display_name,
    "visible": visible,
    "yes_or_no": yes_or_no,
}
TESTS: Mapping[str, Callable[[Any], bool]] = {
    "link": lambda value: isinstance(value, Link),
    "missing": lambda value: value is None or math.isnan(value),
    "listed": lambda value: isinstance(value, Sequence | set) and not isinstance(value, str | bytes),
}
