"""The verdict in words, derived from the table of statements by fixed rules.

α = 1 − the level of the intervals. All numbers are Spearman's ρ in the dyadic view.

predicts    p ≤ α and the interval excludes 0: "predicts". Only one of the two: "may predict". Neither: "is not shown to
            predict".
leads       p ≤ α and every interval of the difference of |ρ| (bootstrap and checks) excludes 0: the larger one
            "predicts better". Otherwise these sources cannot tell which is better.
holds       whether the difference has the same sign for every cosine that was examined.
rests on    the persona whose removal changes the difference most, if it flips the sign or changes it by more than 0.1.
within      whether what is said to predict, or to predict better, does so within kinds of personas; otherwise the kinds
kinds       could explain it.
negatives   whether sign or wording change without the dyads whose target was a trained negative, or given its share.
other       whether another outcome of the table, such as the gain in log-probability, gives another sign or wording.
outcomes
floor       the sources that leak to no target above the floor, which are uninformative about targets.
would take  the number of sources that a study would need, from the power simulation.
"""

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from persona_assets.statistics.families.looks import CHOSEN
from persona_assets.statistics.families.power import EXPECTED
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.verdict_kinds import kinds_rule
from persona_assets.statistics.verdict_rules import negatives_rule, other_outcomes_rule
from persona_assets.statistics.verdict_wording import (
    BOTH,
    Rule,
    alpha,
    by_outcome,
    checked,
    figures,
    leads,
    leaves_out_zero,
    percent,
    predicts,
    signed,
    spoken,
)

NOTABLE = 0.1


@dataclass(frozen=True)
class Verdict:
    """The verdict's text, and the rules behind it in order."""

    words: str
    rules: tuple[Rule, ...]

    def rule(self, name: str) -> Rule:
        """Return the rule with this name."""
        return next(rule for rule in self.rules if rule.name == name)


def verdict(statements: pd.DataFrame) -> Verdict:
    """Return the verdict on a table from `infer`; the cosine is the one that the table marks as primary."""
    cosine = primary_of(statements)
    js, other = (_row(statements, "spearman", name) for name in (JS, cosine))
    difference = _row(statements, "difference of |spearman|", f"{JS} − {cosine}")
    columns = {"js column": js, "cosine column": other, "dyad with both js and cosine": difference}
    if why := _why_not(statements, columns):
        return Verdict(f"The comparison of JS with cosine was {why}.", (Rule("answerable", "no", why),))
    rules = (
        Rule("JS predicts", predicts(js), figures(js, "ρ")),
        Rule("cosine predicts", predicts(other), figures(other, "ρ")),
        Rule("leads", leads(statements, difference), figures(difference, "difference")),
        _holds(statements, difference["estimate"]),
        _rests_on(statements, cosine, difference["estimate"]),
        kinds_rule(statements, cosine, (js, other, difference)),
        negatives_rule(statements, cosine, (js, other, difference)),
        other_outcomes_rule(statements, cosine, (js, other, difference)),
        _floor(statements),
        _would_take(statements),
    )
    return Verdict(_words(rules, statements, cosine, difference), rules)


def _words(rules: tuple[Rule, ...], statements: pd.DataFrame, cosine: str, difference: pd.Series) -> str:
    found = {rule.name: rule for rule in rules}
    sources = int(_estimate(statements, "sources"))
    both = (found["JS predicts"].outcome, found["cosine predicts"].outcome)
    named = spoken(cosine)
    if both[0] == both[1]:
        sentence = f"JS and {named} {BOTH[both[0]]} leakage{by_outcome(difference)}"
    else:
        sentence = f"JS {both[0]} leakage{by_outcome(difference)}, {named} {both[1]} it"
    size = f"difference of |ρ| {signed(difference['estimate'])}, {percent(difference['level'])} "
    size += f"{signed(difference['low'])} to {signed(difference['high'])}"
    leader = found["leads"].outcome
    if leader == "inconclusive":
        sentence += f"; these {sources} sources cannot tell which is better ({size}{_against(statements, difference)})."
    else:
        sentence += f"; {'JS' if leader == 'JS' else named} predicts better ({size})."
    order = ("holds", "rests on", "within kinds", "negatives", "other outcomes", "floor", "would take")
    others = [found[name].because for name in order]
    return " ".join([sentence, *(text for text in others if text)])


def _why_not(statements: pd.DataFrame, rows: dict[str, Any]) -> str:
    """Return why one of these rows has no number; "" if all have one."""
    if len(nothing := statements.loc[statements["quantity"] == "everything", "note"]):
        return str(nothing.iloc[0])
    for what, row in rows.items():
        if row is None:
            return f"not computed: the pair table has no {what}"
        if math.isnan(row["estimate"]):
            return str(row["note"])
    return ""


def primary_of(statements: pd.DataFrame) -> str:
    """Return the column of the cosine that the verdict is about; "" if there is none."""
    marked = statements[(statements["family"] == "looks") & statements["note"].str.endswith(CHOSEN)]
    return next((str(name) for name in marked["predictor"] if name != JS), "")


def _row(statements: pd.DataFrame, quantity: str, predictor: str) -> Any:
    """Return the dyadic row, or None."""
    rows = statements[
        (statements["quantity"] == quantity)
        & (statements["predictor"] == predictor)
        & (statements["view"] == "dyadic")
        & statements["family"].isin(["leakage", "comparison"])
    ]
    return None if rows.empty else rows.iloc[0]


def _estimate(statements: pd.DataFrame, quantity: str) -> float:
    rows = statements.loc[statements["quantity"] == quantity, "estimate"]
    return float(rows.iloc[0]) if len(rows) else math.nan


def _against(statements: pd.DataFrame, difference: pd.Series) -> str:
    """Return why the difference is inconclusive although its reported interval excludes 0; "" if it includes 0."""
    if not leaves_out_zero(difference):
        return ""
    checks = checked(statements, difference)
    doubting = checks[~leaves_out_zero(checks)]
    reasons = [f"p = {difference['p']:.2g}"] if difference["p"] > alpha(difference) else []
    if len(doubting):
        widest = doubting.iloc[int((doubting["high"] - doubting["low"]).to_numpy().argmax())]
        reasons.append(f"another interval {signed(widest['low'])} to {signed(widest['high'])}")
    return f", but {' and '.join(reasons)}"


def _holds(statements: pd.DataFrame, difference: float) -> Rule:
    of_outcome = (statements["quantity"] == "difference of |spearman|") & (statements["family"] == "comparison")
    looks = statements[of_outcome & (statements["view"] == "dyadic") & statements["estimate"].notna()]
    turned = looks[looks["estimate"] * difference < 0]
    if turned.empty:
        return Rule("holds", "yes" if len(looks) > 1 else "one look only", "")
    leader = "JS" if difference < 0 else "the cosine"
    most = turned.iloc[int(turned["estimate"].abs().to_numpy().argmax())]
    named = f"{spoken(most['predictor'].partition(' − ')[2])} ({signed(most['estimate'])})"
    count = f"With {len(turned)} of the {len(looks)} cosines examined"
    return Rule("holds", "no", f"{count}, {leader} leads instead, most clearly with {named}.")


def _rests_on(statements: pd.DataFrame, cosine: str, difference: float) -> Rule:
    prefix = "difference of |spearman| without persona "
    rows = statements[statements["quantity"].str.startswith(prefix) & statements["estimate"].notna()]
    if rows.empty:
        return Rule("rests on", "unknown", "")
    most = rows.iloc[int((rows["estimate"] - difference).abs().to_numpy().argmax())]
    who, without = most["quantity"].removeprefix(prefix), float(most["estimate"])
    if without * difference >= 0 and abs(without - difference) <= NOTABLE:
        return Rule("rests on", "nobody", "")
    return Rule("rests on", who, f"Without {who} the difference is {signed(without)}.")


def _floor(statements: pd.DataFrame) -> Rule:
    row = statements[statements["quantity"] == "sources on the floor"].iloc[0]
    count, sources = int(row["estimate"]), int(_estimate(statements, "sources"))
    who = str(row["note"]).partition(":")[0]
    because = f"{count} of {sources} sources ({who}) sit on the floor." if count else ""
    return Rule("floor", str(count), because)


def _would_take(statements: pd.DataFrame) -> Rule:
    rows = statements[(statements["family"] == "power") & statements["quantity"].str.startswith("sources needed")]
    if rows.empty:
        return Rule("would take", "unknown", "")
    needed, note = rows.iloc[0]["estimate"], str(rows.iloc[0]["note"])
    if math.isnan(needed):
        beyond = note.startswith("more than")
        text = f"Detecting this difference with 80% power would take {note.partition(';')[0]} sources" if beyond else ""
        if text and not math.isnan(expected := _estimate(statements, EXPECTED)):
            text += f": the fitted model expects {signed(expected)}"
        text += "." if text else ""
        return Rule("would take", note.partition(";")[0] if beyond else "unknown", text)
    count = f"{needed:.0f}"
    return Rule("would take", count, f"Detecting this difference with 80% power would take about {count} sources.")
