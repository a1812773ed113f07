"""A statement as a panel says it: the number, and how sure it is in the two views, iid and dyadic."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persona_assets.presentation.layout.correlation import Floats, p_text, rho_text

IID, DYADIC = "iid", "dyadic"
WHAT_THE_VIEWS_TAKE = (
    "[95 % interval]; iid: as if every dyad were an observation of its own, which dyads that share personas are not; "
    "dyadic: intervals resample whole sources, p permutes personas."
)
_CANNOT = "cannot be answered"


def two_views(
    statements: pd.DataFrame | None, family: str, quantity: str, predictor: str, outcome: str
) -> list[tuple[str, str]]:
    """The two views of one statement as lines of a panel: the view's name, its interval and its p.

    Args:
        statements: as `statistics.infer` gives them, or none.
        family, quantity, predictor, outcome: which statement.

    Returns:
        A line a view; none where there is no such statement.
    """
    if statements is None:
        return []
    asked = {"family": family, "quantity": quantity, "predictor": predictor, "outcome": outcome, "given": ""}
    rows = statements
    for column, value in asked.items():
        rows = rows[rows[column] == value]
    by_view = {str(row["view"]): row for row in reversed(rows.to_dict("records"))}
    return [(view, _said(by_view[view])) for view in (IID, DYADIC) if view in by_view]


def _said(row: Mapping[Any, Any]) -> str:
    parts = []
    if pd.notna(row["low"]):
        parts.append(f"[{row['low']:.2f}, {row['high']:.2f}]".replace("-", "−"))
    if pd.notna(row["p"]):
        parts.append(f"p = {p_text(float(row['p']))}")
    return ", ".join(parts) or _CANNOT


def said_of(x: Floats, y: Floats, views: Sequence[tuple[str, str]]) -> list[str | tuple[str, str]]:
    """Spearman's ρ of x and y, then the views."""
    return [rho_text(x, y), *views]
