"""The verdict in words, derived from the table of statements by fixed rules.

α = 1 − the level of the intervals. All numbers are Spearman's ρ in the dyadic view.

predicts    p ≤ α and the interval excludes 0: "predicts". Only one of the two: "may predict". Neither: "is not shown to
            predict".
leads       p ≤ α and every interval of the difference of |ρ| (bootstrap and checks) excludes 0: the larger one
            "predicts better". Otherwise these sources cannot tell which is better.
holds       whether the difference has the same sign for every cosine that was examined.
rests on    the persona whose removal changes the difference most, if it flips the sign or changes it by more than 0.1.
floor       the sources that leak to no target above the floor, which are uninformative about targets.
would take  the number of sources that a study would need, from the power simulation.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from persona_assets.statistics.families.looks import CHOSEN
from persona_assets.statistics.families.power import EXPECTED
from persona_assets.statistics.families.sample import JS

Predicts = Literal["predicts", "may predict", "is not shown to predict"]
NOTABLE = 0.1


@dataclass(frozen=True)
class Rule:
    """One rule, its outcome, and the numbers behind it."""

    name: str
    outcome: str
    because: str


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
        Rule("JS predicts", _predicts(js), _figures(js, "ρ")),
        Rule("cosine predicts", _predicts(other), _figures(other, "ρ")),
        Rule("leads", _leads(statements, difference), _figures(difference, "difference")),
        _holds(statements, difference["estimate"]),
        _rests_on(statements, cosine, difference["estimate"]),
        _floor(statements),
        _would_take(statements),
    )
    return Verdict(_words(rules, statements, cosine, difference), rules)


def _words(rules: tuple[Rule, ...], statements: pd.DataFrame, cosine: str, difference: pd.Series) -> str:
    found = {rule.name: rule for rule in rules}
    sources = int(_estimate(statements, "sources"))
    both = (found["JS predicts"].outcome, found["cosine predicts"].outcome)
    named = _spoken(cosine)
    if both[0] == both[1]:
        plural = {"predicts": "both predict", "may predict": "may both predict"}.get(
            both[0], "are both not shown to predict"
        )
        sentence = f"JS and {named} {plural} leakage"
    else:
        sentence = f"JS {both[0]} leakage, {named} {both[1]} it"
    size = f"difference of |ρ| {_signed(difference['estimate'])}, {_percent(difference['level'])} "
    size += f"{_signed(difference['low'])} to {_signed(difference['high'])}"
    leads = found["leads"].outcome
    if leads == "inconclusive":
        sentence += f"; these {sources} sources cannot tell which is better ({size}{_against(statements, difference)})."
    else:
        sentence += f"; {'JS' if leads == 'JS' else named} predicts better ({size})."
    others = [found[name].because for name in ("holds", "rests on", "floor", "would take") if found[name].because]
    return " ".join([sentence, *others])


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


def _predicts(row: pd.Series) -> Predicts:
    signs = int(row["p"] <= _alpha(row)) + int(row["low"] > 0 or row["high"] < 0)
    outcomes: tuple[Predicts, ...] = ("is not shown to predict", "may predict", "predicts")
    return outcomes[signs]


def _checked(statements: pd.DataFrame, difference: pd.Series) -> pd.DataFrame:
    """Return the rows of the difference with the reported interval and those of the checks."""
    rows: pd.DataFrame = statements[
        (statements["name"] == difference["name"]) & statements["view"].isin(["dyadic", "check"])
    ]
    return rows


def _leaves_out_zero(rows: Any) -> Any:
    return (rows["low"] > 0) | (rows["high"] < 0)


def _against(statements: pd.DataFrame, difference: pd.Series) -> str:
    """Return why the difference is inconclusive although its reported interval excludes 0; "" if it includes 0."""
    if not _leaves_out_zero(difference):
        return ""
    checks = _checked(statements, difference)
    doubting = checks[~_leaves_out_zero(checks)]
    reasons = [f"p = {difference['p']:.2g}"] if difference["p"] > _alpha(difference) else []
    if len(doubting):
        widest = doubting.iloc[int((doubting["high"] - doubting["low"]).to_numpy().argmax())]
        reasons.append(f"another interval {_signed(widest['low'])} to {_signed(widest['high'])}")
    return f", but {' and '.join(reasons)}"


def _leads(statements: pd.DataFrame, difference: pd.Series) -> str:
    told = _leaves_out_zero(_checked(statements, difference)).all()
    if told and difference["p"] <= _alpha(difference):
        return "JS" if difference["estimate"] > 0 else "cosine"
    return "inconclusive"


def _alpha(row: pd.Series) -> float:
    return float(1 - row["level"] + 1e-12)  # 1 − 0.95 is slightly below 0.05 in floating point


def _holds(statements: pd.DataFrame, difference: float) -> Rule:
    looks = statements[(statements["quantity"] == "difference of |spearman|") & (statements["view"] == "dyadic")]
    looks = looks[looks["estimate"].notna()]
    turned = looks[looks["estimate"] * difference < 0]
    if turned.empty:
        return Rule("holds", "yes" if len(looks) > 1 else "one look only", "")
    leader = "JS" if difference < 0 else "the cosine"
    most = turned.iloc[int(turned["estimate"].abs().to_numpy().argmax())]
    named = f"{_spoken(most['predictor'].partition(' − ')[2])} ({_signed(most['estimate'])})"
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
    return Rule("rests on", who, f"Without {who} the difference is {_signed(without)}.")


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
            text += f": the fitted model expects {_signed(expected)}"
        text += "." if text else ""
        return Rule("would take", note.partition(";")[0] if beyond else "unknown", text)
    count = f"{needed:.0f}"
    return Rule("would take", count, f"Detecting this difference with 80% power would take about {count} sources.")


def _figures(row: pd.Series, symbol: str) -> str:
    p = f"p = {row['p']:.2g}" if not math.isnan(row["p"]) else "no p"
    interval = f"{_percent(row['level'])} {_signed(row['low'])} to {_signed(row['high'])}"
    return f"{symbol} {_signed(row['estimate'])}, {interval}, {p}"


def _spoken(cosine: str) -> str:
    population, _, layer = cosine.removeprefix("cosine_").rpartition("_layer")
    return f"cosine (layer {layer}, centred on {population.replace('_', ' ')})"


def _percent(share: float) -> str:
    return f"{100 * share:g}%"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
