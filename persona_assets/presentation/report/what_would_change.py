"""What a verdict depends on: the number of sources, the choice of cosine, single personas."""

import re
from typing import Any

import pandas as pd

from persona_assets.presentation.summaries.statements import VerdictLike

_POWER = re.compile(r"power with (\d+) sources")
# Rule of a verdict → heading, text if the rule found nothing, and the figure that shows it.
_RULES = {
    "would take": ("More sources", "", ""),
    "holds": ("Another cosine", "The same predictor leads with every cosine that was tested.", "specification_curve"),
    "rests on": ("One persona fewer", "Leaving out any persona changes the difference by at most 0.1.", "influence"),
    "floor": ("Sources that do not leak", "", ""),
}
_NOTHING_FOUND = ("yes", "nobody")


def what_would_change(statements: pd.DataFrame, verdict: VerdictLike) -> dict[str, Any]:
    """Split a verdict into its first sentence and what it depends on.

    Args:
        statements: as returned by `statistics.infer`.
        verdict: as returned by `statistics.verdict`; its words end with the explanations of its rules.

    Returns:
        `verdict`: the sentence. `changes`: for each thing that would change it, the `heading`, the `text`, the name of
        the `figure` that shows it, and whether the `power` table belongs to it. `power`: `sources` and `power` for each
        simulated study size.
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
