"""Rule of the verdict that repeats its claims within kinds of personas."""

import math
from typing import Any

import pandas as pd

from persona_assets.statistics.families.kinds import DIFFERENCE, FAMILY, WITHIN
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.verdict_wording import Rule, alpha, leads, predicts, signed, spoken

NAME = "within kinds"


def kinds_rule(statements: pd.DataFrame, cosine: str, main: tuple[Any, Any, Any]) -> Rule:
    """Return whether the claims of the verdict hold within kinds of personas.

    A claim is that a predictor predicts or may predict leakage, or that one predicts better. It holds if p ≤ α within
    kinds, with the same sign; the interval within kinds excludes 0 exactly then.

    Args:
        statements: table from `infer`.
        cosine: column of the cosine that the verdict is about.
        main: the dyadic rows of JS, the cosine and the difference.
    """
    family = statements[statements["family"] == FAMILY].set_index(["quantity", "predictor"])
    if family.empty:
        return Rule(NAME, "no kinds", "")
    named = ((JS, "JS", main[0]), (cosine, spoken(cosine), main[1]))
    claims = [(called, row, _only(family, WITHIN, name)) for name, called, row in named if _claimed(row)]
    if not claims:
        return Rule(NAME, "nothing to hold", "")
    if reason := next((_reason(within) for _, _, within in claims if math.isnan(within["p"])), ""):
        return Rule(
            NAME, "cannot tell", f"Whether the association holds within kinds of personas cannot be told: {reason}."
        )
    failed = [(called, within) for called, row, within in claims if not _holds(row, within)]
    unclear = [(called, within) for called, within in failed if within["p"] > alpha(within)]
    texts = [
        f"Within kinds of personas ρ of {called} has the other sign ({_numbers(within)})."
        for called, within in failed
        if within["p"] <= alpha(within)
    ]
    if unclear:
        named_with = " and ".join(f"{called} ({_numbers(within)})" for called, within in unclear)
        verb = "is" if len(unclear) == 1 else "are"
        texts.append(
            f"Within kinds of personas {named_with} {verb} not shown to predict leakage: the kinds could explain the "
            "association."
        )
    if leads(statements, main[2]) != "inconclusive":
        within = _only(family, DIFFERENCE, f"{JS} − {cosine}")
        if not _holds(main[2], within):
            size = f"difference of |ρ| {signed(within['estimate'])}, p = {within['p']:.2g}"
            texts.append(f"Within kinds these sources cannot tell which is better ({size}).")
    if texts:
        return Rule(NAME, "no", " ".join(texts))
    numbers = " and ".join(f"{signed(within['estimate'])} of {called}" for called, _, within in claims)
    return Rule(NAME, "yes", f"The association also holds within kinds of personas (ρ {numbers}).")


def _only(family: pd.DataFrame, quantity: str, predictor: str) -> pd.Series:
    return family.loc[[(quantity, predictor)]].iloc[0]


def _claimed(row: pd.Series) -> bool:
    return predicts(row) != "is not shown to predict"


def _holds(row: pd.Series, within: pd.Series) -> bool:
    return bool(within["p"] <= alpha(within) and row["estimate"] * within["estimate"] > 0)


def _numbers(within: pd.Series) -> str:
    return f"ρ {signed(within['estimate'])}, p = {within['p']:.2g}"


def _reason(within: pd.Series) -> str:
    return str(within["note"]).removeprefix("not computed: ").partition("; ranks less the mean")[0]
