"""Rules of the verdict that repeat it elsewhere: without trained negatives, and with every other outcome."""

from typing import Any

import pandas as pd

from persona_assets.statistics.dyads import SPOKEN
from persona_assets.statistics.families.negatives import COUNT, WITHOUT
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.verdict_wording import BOTH, Rule, leads, predicts, signed, spoken

Rows = tuple[Any, Any, Any]  # JS, the cosine, and the difference, in the dyadic view


def other_outcomes_rule(statements: pd.DataFrame, cosine: str, main: Rows) -> Rule:
    """Return whether another outcome of the table would change the sign or the wording of the verdict."""
    family = statements[statements["family"] == "outcomes"]
    texts, found = [], list(dict.fromkeys(family["outcome"]))
    for outcome in found:
        rows = _rows(family[family["outcome"] == outcome], cosine)
        if rows is None or not (changes := _changes(statements, cosine, main, rows)):
            continue
        numbers = f"ρ of JS {signed(rows[0]['estimate'])}, of cosine {signed(rows[1]['estimate'])}"
        texts.append(f"By {SPOKEN.get(outcome, outcome)} instead, {_joined(changes)} ({numbers}).")
    if not found:
        return Rule("other outcomes", "no other outcome", "")
    return Rule("other outcomes", "disagree" if texts else "agree", " ".join(texts))


def negatives_rule(statements: pd.DataFrame, cosine: str, main: Rows) -> Rule:
    """Return whether sign or wording of the verdict depend on trained negatives."""
    family = statements[statements["family"] == "negatives"]
    count = family.loc[family["quantity"] == COUNT, "estimate"]
    if count.empty or pd.isna(count.iloc[0]):
        return Rule("negatives", "unknown", "")
    if not (number := int(count.iloc[0])):
        return Rule("negatives", "none", "")
    dyads = f"{number} dyad{'s' if number != 1 else ''} whose target was a trained negative"
    rows = _rows(family, cosine, WITHOUT)
    if rows is None:
        text = f"The effect of trained negatives cannot be separated: too few dyads are left without the {dyads}."
        return Rule("negatives", "cannot tell", text)
    changes = _changes(statements, cosine, main, rows)
    texts = []
    if changes:
        numbers = f"ρ of JS {signed(rows[0]['estimate'])}, of cosine {signed(rows[1]['estimate'])}"
        texts.append(f"Without the {dyads}, {_joined(changes)} ({numbers}).")
    given = family[(family["quantity"] == "partial spearman") & (family["view"] == "dyadic")]
    for name, row, called in ((JS, main[0], "JS"), (cosine, main[1], "cosine")):
        values = given.loc[given["predictor"] == name, "estimate"]
        if len(values) and values.iloc[0] * row["estimate"] < 0:
            texts.append(f"Given the share of trained negatives, ρ of {called} is {signed(values.iloc[0])}.")
    return Rule("negatives", "depends on them" if texts else "no", " ".join(texts))


def _rows(family: pd.DataFrame, cosine: str, suffix: str = "") -> Rows | None:
    """Return the dyadic rows of a repeated analysis; None if one of them has no number."""
    dyadic = family[(family["view"] == "dyadic") & family["estimate"].notna()].set_index(["quantity", "predictor"])
    wanted = (
        (f"spearman{suffix}", JS),
        (f"spearman{suffix}", cosine),
        (f"difference of |spearman|{suffix}", f"{JS} − {cosine}"),
    )
    if any(key not in dyadic.index for key in wanted):
        return None
    js, other, difference = (dyadic.loc[[key]].iloc[0] for key in wanted)
    return js, other, difference


def _changes(statements: pd.DataFrame, cosine: str, main: Rows, rows: Rows) -> list[str]:
    """Return what differs in sign or wording, as clauses."""
    clauses = []
    names = ("JS", spoken(cosine))
    words = [(predicts(before), predicts(after)) for before, after in zip(main[:2], rows[:2], strict=True)]
    if all(before != after == words[0][1] for before, after in words):
        clauses.append(f"{' and '.join(names)} {BOTH[words[0][1]]} leakage")
    else:
        changed = zip(names, words, strict=True)
        clauses += [f"{name} {after} leakage" for name, (before, after) in changed if before != after]
    for before, after, called in zip(main[:2], rows[:2], names, strict=True):
        if before["estimate"] * after["estimate"] < 0:
            clauses.append(f"ρ of {called} has the other sign")
    before, after = (leads(statements, row) for row in (main[2], rows[2]))
    if before != after:
        better = {"JS": "JS predicts better", "cosine": "the cosine predicts better"}
        clauses.append(better.get(after, "these sources cannot tell which is better"))
    elif main[2]["estimate"] * rows[2]["estimate"] < 0:
        clauses.append(f"{'JS' if rows[2]['estimate'] > 0 else 'the cosine'} leads")
    return clauses


def _joined(clauses: list[str]) -> str:
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}"
