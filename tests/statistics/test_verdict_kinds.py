"""The verdict's rule on kinds of personas, on hand-made tables of statements."""

from typing import Any

import pandas as pd
import pytest

from persona_assets.statistics import verdict
from persona_assets.statistics.families.kinds import DIFFERENCE, FAMILY, WITHIN
from persona_assets.statistics.statement import Statement
from tests.statistics.test_verdicts import COSINE, SURE, UNSURE, number, study

BETTER = (0.2, 0.1, 0.3, 0.01)  # the difference of |ρ|: JS predicts better


def within(
    js: tuple[float, float] = (-0.6, 0.01),
    cosine: tuple[float, float] = (0.4, 0.02),
    apart: tuple[float, float] = (0.2, 0.3),
    overall: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Make a study with statements within kinds, each as (estimate, p); `overall` are arguments of `study`."""

    def row(quantity: str, predictor: str, values: tuple[float, float]) -> Statement:
        estimate, p = values
        return number(FAMILY, quantity, predictor, estimate, estimate - 0.1, estimate + 0.1, p)

    rows = [row(WITHIN, "js", js), row(WITHIN, COSINE, cosine), row(DIFFERENCE, f"js − {COSINE}", apart)]
    return study(*rows, **(overall or {}))


def test_a_study_without_kinds_is_not_affected() -> None:
    found = verdict(study())
    assert (found.rule("within kinds").outcome, found.rule("within kinds").because) == ("no kinds", "")
    assert "kinds" not in found.words


def test_claims_that_hold_within_kinds_are_given_with_their_correlations() -> None:
    found = verdict(within())
    text = (
        "The association also holds within kinds of personas (ρ −0.60 of JS and +0.40 of cosine (layer 20, centred on "
        "study))."
    )
    assert (found.rule("within kinds").outcome, found.rule("within kinds").because) == ("yes", text)
    assert text in found.words


def test_a_predictor_that_does_not_predict_within_kinds_could_owe_it_to_them() -> None:
    found = verdict(within(js=(-0.1, 0.4)))
    assert found.rule("JS predicts").outcome == "predicts"
    assert found.rule("within kinds").outcome == "no"
    text = (
        "Within kinds of personas JS (ρ −0.10, p = 0.4) is not shown to predict leakage: the kinds could explain the "
        "association."
    )
    assert found.rule("within kinds").because == text
    assert text in found.words


def test_two_that_do_not_predict_within_kinds_share_a_sentence() -> None:
    because = verdict(within(js=(-0.1, 0.4), cosine=(0.1, 0.06))).rule("within kinds").because
    assert because == (
        "Within kinds of personas JS (ρ −0.10, p = 0.4) and cosine (layer 20, centred on study) (ρ +0.10, p = 0.06) "
        "are not shown to predict leakage: the kinds could explain the association."
    )


def test_a_correlation_that_turns_within_kinds_is_named() -> None:
    because = verdict(within(cosine=(-0.4, 0.01))).rule("within kinds").because
    assert because == (
        "Within kinds of personas ρ of cosine (layer 20, centred on study) has the other sign (ρ −0.40, p = 0.01)."
    )


def test_only_what_is_said_to_predict_must_hold() -> None:
    failing: Any = {"js": (-0.1, 0.4), "cosine": (0.1, 0.5)}
    one = verdict(within(**failing, overall={"js": UNSURE}))
    assert one.rule("within kinds").because.startswith("Within kinds of personas cosine (layer 20")
    neither = verdict(within(**failing, overall={"js": UNSURE, "cosine": UNSURE}))
    assert (neither.rule("within kinds").outcome, neither.rule("within kinds").because) == ("nothing to hold", "")


@pytest.mark.parametrize(
    ("apart", "outcome"), [((0.2, 0.05), "yes"), ((0.2, 0.06), "no"), ((-0.2, 0.01), "no")], ids=["same", "p", "sign"]
)
def test_the_better_predictor_must_be_better_within_kinds(apart: tuple[float, float], outcome: str) -> None:
    rule = verdict(within(apart=apart, overall={"apart": BETTER})).rule("within kinds")
    assert rule.outcome == outcome
    assert ("Within kinds these sources cannot tell which is better" in rule.because) == (outcome == "no")


def test_a_design_that_cannot_answer_says_so() -> None:
    why = "the personas of 8 kinds can exchange labels within their kind in 2 ways; p ≤ 0.05 needs at least 20"
    note = "ranks less the mean rank of each pair of kinds; predictors are ranked over all pairs"
    about: Any = {"family": FAMILY, "outcome": "leakage_rate", "view": "dyadic", "unanswerable": why, "note": note}
    rows = [
        Statement(quantity=WITHIN, predictor="js", **about),
        Statement(quantity=WITHIN, predictor=COSINE, **about),
        Statement(quantity=DIFFERENCE, predictor=f"js − {COSINE}", **about),
    ]
    rule = verdict(study(*rows, js=SURE)).rule("within kinds")
    assert rule.outcome == "cannot tell"
    assert rule.because == f"Whether the association holds within kinds of personas cannot be told: {why}."
