"""What the report says of inference: the verdict, its rules, and every statement twice."""

from typing import Any

import pandas as pd

from persona_assets.presentation.statements import FAMILIES, VerdictLike, label, side_by_side

_TWICE = ("leakage", "comparison", "models", "pairs", "coupling", "noise")
_ONCE = ("influence", "looks", "power")


def inference_section(statements: pd.DataFrame, verdict: VerdictLike, primary: str) -> dict[str, Any]:
    """Everything that the template of the section asks for.

    Args:
        statements: as `statistics.infer` returns them.
        verdict: as `statistics.verdict` returns it.
        primary: column of the cosine that the verdict is about; other cosines' rows are folded away.
    """
    return {
        "words": verdict.words,
        "rules": list(verdict.rules),
        "level": statements["level"].dropna().max() if statements["level"].notna().any() else 0.95,
        "design": statements[statements["family"] == "design"].to_dict("records"),
        "twice": [_folded(family, side_by_side(statements, family), primary) for family in _TWICE],
        "once": [_once(statements, family) for family in _ONCE],
        "methods": _methods(statements),
        "cautions": _cautions(statements),
    }


def _folded(family: str, rows: list[dict[str, Any]], primary: str) -> dict[str, Any]:
    """Rows about JS and the primary cosine in the open, those of other cosines folded away."""
    shown: list[dict[str, Any]] = []
    more: list[dict[str, Any]] = []
    for row in rows:
        record = row["iid"] or row["dyadic"] or row["checks"][0]
        names = f"{record['predictor']} {record['given']} {record['outcome']}".split(" ")
        others = [name for name in names if name.startswith("cosine_") and "layer" in name and name != primary]
        (more if others and family != "coupling" else shown).append(row)
    return {"heading": FAMILIES[family], "shown": shown, "more": more}


def _once(statements: pd.DataFrame, family: str) -> dict[str, Any]:
    rows = statements[statements["family"] == family].to_dict("records")
    named = [{**row, "label": label({str(key): value for key, value in row.items()})} for row in rows]
    return {"heading": FAMILIES[family], "rows": named}


def _cautions(statements: pd.DataFrame) -> list[str]:
    """What notes say of methods that do not hold their level, each once."""
    parts = statements["note"].str.split("; ").explode().dropna()
    return sorted({str(part) for part in parts if "calibration.md" in str(part)})


def _methods(statements: pd.DataFrame) -> list[dict[str, str]]:
    """Every way that an interval or p was made, once, with what it takes as independent and where it is from."""
    used = statements.loc[statements["method"] != "", ["view", "method", "structure", "reference"]]
    return [{str(k): str(v) for k, v in row.items()} for row in used.drop_duplicates().to_dict("records")]
