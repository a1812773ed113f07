"""Statements as lines of text above a panel: the estimate, and its iid and dyadic uncertainty."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from persona_assets.presentation.layout.correlation import Floats, p_text, rho_text

IID, DYADIC = "iid", "dyadic"
VIEWS_NOTE = (
    "[95 % interval]; iid: as if every dyad were an observation of its own, which dyads that share personas are not; "
    "dyadic: intervals resample whole sources, p permutes personas."
)
_CANNOT = "not computed"


def two_views(
    statements: pd.DataFrame | None, family: str, quantity: str, predictor: str, outcome: str
) -> list[tuple[str, str]]:
    """Return the views of one statement as lines: the name of the view, its interval and p.

    Args:
        statements: as returned by `statistics.infer`, or None.
        family, quantity, predictor, outcome: identify the statement.

    Returns:
        One line per view; empty if there is no such statement.
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


def rho_and_views(x: Floats, y: Floats, views: Sequence[tuple[str, str]]) -> list[str | tuple[str, str]]:
    """Return the text of Spearman's ρ of x and y, followed by the views."""
    return [rho_text(x, y), *views]
