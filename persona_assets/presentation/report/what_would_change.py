"""What a verdict depends on: the number of sources, the choice of cosine and outcome, kinds of personas, negatives."""

import re
from typing import Any

import pandas as pd

from persona_assets.presentation.summaries.statements import VerdictLike

_POWER = re.compile(r"power with (\d+) sources")
_COSINE = "The same predictor leads with every cosine that was tested."
_PERSONA = "Leaving out any persona changes the difference by at most 0.1."
_OUTCOME = "By every other outcome the verdict has the same sign and wording."
_UNKNOWN = "It is not known which targets were trained negatives of a source, so whether they matter cannot be told."
# Rule of a verdict → heading, text for outcomes of the rule without an explanation, and the figure that shows it.
_RULES: dict[str, tuple[str, dict[str, str], str]] = {
    "would take": ("More sources", {}, ""),
    "holds": ("Another cosine", {"yes": _COSINE}, "specification_curve"),
    "other outcomes": ("Another outcome", {"agree": _OUTCOME}, "reliability"),
    "rests on": ("One persona fewer", {"nobody": _PERSONA}, "influence"),
    "within kinds": ("Kinds of personas", {}, ""),
    "negatives": ("Trained negatives", {"unknown": _UNKNOWN}, ""),
    "floor": ("Sources that do not leak", {}, ""),
}


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
    for name, (heading, texts, figure) in _RULES.items():
        if (rule := rules.get(name)) is None:
            continue
        if rule.because and rule.because in sentence:
            sentence = " ".join(sentence.replace(rule.because, "").split())
        if text := rule.because or texts.get(rule.outcome, ""):
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
