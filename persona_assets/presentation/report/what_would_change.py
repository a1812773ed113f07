"""What would change a verdict: more sources, another choice, one persona less."""

import re
from typing import Any

import pandas as pd

from persona_assets.presentation.summaries.statements import VerdictLike

_POWER = re.compile(r"power with (\d+) sources")
# Rule of a verdict → what it is about, what is said where the rule has found nothing, and the figure that shows it.
_RULES = {
    "would take": ("More sources", "", ""),
    "holds": ("Another cosine", "With every cosine that was looked at the same one leads.", "specification_curve"),
    "rests on": ("One persona less", "Leaving out any one persona changes the difference by 0.1 at most.", "influence"),
    "floor": ("Sources that leak to nobody", "", ""),
}
_NOTHING_FOUND = ("yes", "nobody")


def what_would_change(statements: pd.DataFrame, verdict: VerdictLike) -> dict[str, Any]:
    """The verdict's first sentence, and apart from it what it depends on.

    Args:
        statements: as `statistics.infer` returns them.
        verdict: as `statistics.verdict` returns it: its words end with what its rules say of themselves.

    Returns:
        `verdict`: the sentence; `changes`: `heading` and `text` of everything that would change it, the name of the
        `figure` that shows it, and whether `power` belongs to it; `power`: `sources` and `power` of each simulated size
        of study.
    """
    rules = {rule.name: rule for rule in verdict.rules}
    sentence = verdict.words
    changes = []
    power = _power(statements)
    for name, (heading, otherwise, figure) in _RULES.items():
        if (rule := rules.get(name)) is None:
            continue
        if rule.because and rule.because in sentence:
            sentence = " ".join(sentence.replace(rule.because, "").split())
        text = rule.because or (otherwise if rule.outcome in _NOTHING_FOUND else "")
        if text:
            shown = bool(power) and name == "would take"
            changes.append({"heading": heading, "text": text, "figure": figure, "power": shown})
    return {"verdict": sentence, "changes": changes, "power": power}


def _power(statements: pd.DataFrame) -> list[dict[str, float]]:
    rows = statements[statements["family"] == "power"]
    return [
        {"sources": int(match[1]), "power": float(row["estimate"])}
        for row in rows.to_dict("records")
        if (match := _POWER.fullmatch(str(row["quantity"]))) and not pd.isna(row["estimate"])
    ]
