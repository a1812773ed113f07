"""Results by every outcome side by side: ρ of JS and of the primary cosine, their difference, and the reliability."""

from typing import Any

import pandas as pd

from persona_assets.presentation.layout.outcomes import OUTCOMES
from persona_assets.presentation.summaries.statements import verdict_outcome

_RELIABILITY = "reliability, halves of questions"
_SEEDS = "reliability, training seeds"


def outcome_rows(statements: pd.DataFrame, primary: str) -> list[dict[str, Any]]:
    """Return one row per outcome that has a correlation, the verdict's first.

    Args:
        statements: as returned by `statistics.infer`.
        primary: column of the cosine that the verdict is about.

    Returns:
        `outcome` (its name), `is_verdicts`, and records, None where there is no estimate: of the dyadic views `js`,
        `cosine` and `difference`, and of the reliabilities `halves` and `seeds`.
    """
    shown = verdict_outcome(statements)
    rows = statements[statements["family"].isin(["leakage", "comparison", "outcomes"])]
    rows = rows[(rows["view"] == "dyadic") & (rows["given"] == "")]
    order = sorted(OUTCOMES, key=lambda column: column != shown)
    found = []
    for column in order:
        own = rows[rows["outcome"] == column]
        of_noise = statements[(statements["family"] == "noise") & (statements["outcome"] == column)]
        if not (own["quantity"] == "spearman").any():
            continue
        found.append(
            {
                "outcome": OUTCOMES[column].name,
                "is_verdicts": column == shown,
                "js": _record(own, "spearman", "js"),
                "cosine": _record(own, "spearman", primary),
                "difference": _record(own, "difference of |spearman|", f"js − {primary}"),
                "halves": _record(of_noise, _RELIABILITY),
                "seeds": _record(of_noise, _SEEDS),
            }
        )
    return found


def _record(rows: pd.DataFrame, quantity: str, predictor: str = "") -> dict[str, Any] | None:
    """Return the first row with an estimate as a record; None if there is none."""
    asked = (rows["quantity"] == quantity) & rows["estimate"].notna()
    if predictor:
        asked &= rows["predictor"] == predictor
    records = rows[asked].to_dict("records")
    return {str(key): value for key, value in records[0].items()} if records else None
