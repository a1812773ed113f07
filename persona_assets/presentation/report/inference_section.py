"""What the report says of inference: the verdict, what would change it, its rules, and every statement twice."""

from typing import Any

import pandas as pd

from persona_assets.presentation.report.statement_tables import once_table, twice_table
from persona_assets.presentation.report.what_would_change import what_would_change
from persona_assets.presentation.summaries.statements import FAMILIES, VerdictLike, label, main_statements, side_by_side

_TWICE = ("leakage", "comparison", "models", "pairs", "coupling", "noise")
_ONCE = ("influence", "looks", "power")
Rows = list[dict[str, Any]]


def inference_section(statements: pd.DataFrame, verdict: VerdictLike, primary: str) -> dict[str, Any]:
    """Everything that the templates of the verdict and of the statements ask for.

    Args:
        statements: as `statistics.infer` returns them.
        verdict: as `statistics.verdict` returns it.
        primary: column of the cosine that the verdict is about; other cosines' rows are folded away.
    """
    main = main_statements(statements, primary)
    shown, more = _folded({family: side_by_side(statements, family) for family in _TWICE}, primary)
    return {
        **what_would_change(statements, verdict),
        "main": twice_table({"": main}, "main") if main else None,
        "words": verdict.words,
        "rules": list(verdict.rules),
        "level": statements["level"].dropna().max() if statements["level"].notna().any() else 0.95,
        "design": statements[statements["family"] == "design"].to_dict("records"),
        "shown": twice_table(shown, "shown") if shown else None,
        "more": twice_table(more, "more") if more else None,
        "more_count": sum(map(len, more.values())),
        "once": [_once(statements, family) for family in _ONCE if family in set(statements["family"])],
        "methods": _methods(statements),
        "cautions": _cautions(statements),
    }


def _folded(families: dict[str, Rows], primary: str) -> tuple[dict[str, Rows], dict[str, Rows]]:
    """By heading: rows about JS and the primary cosine, to stand in the open, and those of other cosines."""
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


def _once(statements: pd.DataFrame, family: str) -> dict[str, Any]:
    records = statements[statements["family"] == family].to_dict("records")
    rows = [{str(key): value for key, value in record.items()} for record in records]
    named = [{**row, "label": label(row)} for row in rows]
    return {"heading": FAMILIES[family], "count": len(named), "table": once_table(named, family)}


def _cautions(statements: pd.DataFrame) -> list[str]:
    """What notes say of methods that do not hold their level, each once."""
    parts = statements["note"].str.split("; ").explode().dropna()
    return sorted({str(part) for part in parts if "calibration.md" in str(part)})


def _methods(statements: pd.DataFrame) -> list[dict[str, str]]:
    """Every way that an interval or p was made, once, with what it takes as independent and where it is from."""
    used = statements.loc[statements["method"] != "", ["view", "method", "structure", "reference"]]
    return [{str(k): str(v) for k, v in row.items()} for row in used.drop_duplicates().to_dict("records")]
