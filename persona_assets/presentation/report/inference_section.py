"""Inference sections of the report: the verdict, what would change it, its rules, and all statements in both views."""

from typing import Any

import pandas as pd

from persona_assets.presentation.report.statement_tables import single_view_table, two_view_table
from persona_assets.presentation.report.what_would_change import what_would_change
from persona_assets.presentation.summaries.outcome_rows import outcome_rows
from persona_assets.presentation.summaries.statements import (
    FAMILIES,
    OF_ONE_OUTCOME,
    VerdictLike,
    label,
    main_statements,
    side_by_side,
)

_TWO_VIEWS = ("leakage", "comparison", "outcomes", "negatives", "kinds", "models", "pairs", "coupling", "noise")
_SINGLE_VIEW = ("reliability", "influence", "looks", "power")
Rows = list[dict[str, Any]]


def inference_section(statements: pd.DataFrame, verdict: VerdictLike, primary: str) -> dict[str, Any]:
    """Return the variables of the verdict and statements templates.

    Args:
        statements: as returned by `statistics.infer`.
        verdict: as returned by `statistics.verdict`.
        primary: column of the cosine that the verdict is about; rows of other cosines are collapsed.
    """
    main, outcomes = main_statements(statements, primary), outcome_rows(statements, primary)
    of_one_outcome = statements["quantity"].str.startswith(OF_ONE_OUTCOME)
    statements = statements.assign(family=statements["family"].mask(of_one_outcome, "reliability"))
    shown, more = _split_by_cosine({family: side_by_side(statements, family) for family in _TWO_VIEWS}, primary)
    return {
        **what_would_change(statements, verdict),
        "main": two_view_table({"": main}, "main") if main else None,
        "outcomes": outcomes,
        "words": verdict.words,
        "rules": list(verdict.rules),
        "level": statements["level"].dropna().max() if statements["level"].notna().any() else 0.95,
        "design": statements[statements["family"] == "design"].to_dict("records"),
        "shown": two_view_table(shown, "shown") if shown else None,
        "more": two_view_table(more, "more") if more else None,
        "more_count": sum(map(len, more.values())),
        "once": [_single_view(statements, family) for family in _SINGLE_VIEW if family in set(statements["family"])],
        "methods": _methods(statements),
        "cautions": _cautions(statements),
    }


def _split_by_cosine(families: dict[str, Rows], primary: str) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """Split rows, by heading, into those about JS and the primary cosine (shown) and other cosines (collapsed)."""
    shown: dict[str, Rows] = {}
    more: dict[str, Rows] = {}
    for family, rows in families.items():
        for row in rows:
            record = row["iid"] or row["dyadic"] or row["checks"][0]
            names = f"{record['predictor']} {record['given']} {record['outcome']}".split(" ")
            others = [name for name in names if name.startswith("cosine_") and "layer" in name and name != primary]
            where = more if others and family != "coupling" else shown
            where.setdefault(FAMILIES[family], []).append(row)
    return shown, more


def _single_view(statements: pd.DataFrame, family: str) -> dict[str, Any]:
    records = statements[statements["family"] == family].to_dict("records")
    rows = [{str(key): value for key, value in record.items()} for record in records]
    named = [{**row, "label": label(row)} for row in rows]
    return {"heading": FAMILIES[family], "count": len(named), "table": single_view_table(named, family)}


def _cautions(statements: pd.DataFrame) -> list[str]:
    """Return the distinct notes about methods that do not keep their nominal level."""
    parts = statements["note"].str.split("; ").explode().dropna()
    return sorted({str(part) for part in parts if "calibration.md" in str(part)})


def _methods(statements: pd.DataFrame) -> list[dict[str, str]]:
    """Return the distinct methods of intervals and p values, with their independence assumption and reference."""
    used = statements.loc[statements["method"] != "", ["view", "method", "structure", "reference"]]
    return [{str(k): str(v) for k, v in row.items()} for row in used.drop_duplicates().to_dict("records")]
