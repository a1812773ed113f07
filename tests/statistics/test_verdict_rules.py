"""Rules that repeat the verdict with other outcomes and without trained negatives, on hand-made tables."""

from dataclasses import replace
from typing import Any

import pytest

from persona_assets.statistics import verdict
from persona_assets.statistics.families.negatives import COUNT, WITHOUT
from persona_assets.statistics.statement import Statement
from tests.statistics.test_verdicts import COSINE, SURE, UNSURE, difference, number, rho, study

APART = (0.2, 0.1, 0.3, 0.01)


def repeated(
    family: str,
    outcome: str,
    suffix: str = "",
    js: Any = (-0.7, *SURE),
    cosine: Any = (0.5, 0.3, 0.7, 0.01),
    **more: Any,
) -> list[Statement]:
    """Make the rows of a repeated analysis: JS and the cosine, each (ρ, low, high, p), and the difference."""
    apart = more.get("apart", (0.2, -0.1, 0.3, 0.4))
    rows = [rho("js", *js), rho(COSINE, *cosine), difference(COSINE, *apart)]
    return [replace(row, family=family, outcome=outcome, quantity=f"{row.quantity}{suffix}") for row in rows]


def negatives(count: int, **more: Any) -> list[Statement]:
    about = Statement(family="negatives", quantity=COUNT, view="check", estimate=count)
    return [about, *(repeated("negatives", "leakage_rate", WITHOUT, **more) if count else ())]


def test_an_outcome_that_agrees_adds_no_words() -> None:
    found = verdict(study(*repeated("outcomes", "log_prob_gain")))
    assert (found.rule("other outcomes").outcome, found.rule("other outcomes").because) == ("agree", "")
    assert found.words == verdict(study()).words


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (
            {"js": (-0.2, *UNSURE)},
            "By gain in log-probability instead, JS is not shown to predict leakage (ρ of JS −0.20, of cosine +0.50).",
        ),
        (
            {"js": (-0.2, *UNSURE), "cosine": (0.1, -0.1, 0.9, 0.2)},
            "JS and cosine (layer 20, centred on study) are both not shown to predict leakage (ρ of JS −0.20, ",
        ),
        ({"js": (0.7, 0.5, 0.9, 0.01)}, "ρ of JS has the other sign (ρ of JS +0.70"),
        ({"apart": (-0.2, -0.3, -0.1, 0.01)}, "By gain in log-probability instead, the cosine predicts better ("),
        ({"apart": (0.2, 0.1, 0.3, 0.01)}, "By gain in log-probability instead, JS predicts better ("),
        ({"apart": (-0.2, -0.3, 0.1, 0.4)}, "By gain in log-probability instead, the cosine leads ("),
    ],
)
def test_an_outcome_that_disagrees_is_named(changed: dict[str, Any], words: str) -> None:
    found = verdict(study(*repeated("outcomes", "log_prob_gain", **changed)))
    assert found.rule("other outcomes").outcome == "disagree"
    assert words in found.words


def test_an_outcome_that_cannot_tell_disagrees_with_one_that_can() -> None:
    found = verdict(study(*repeated("outcomes", "log_prob_gain"), apart=APART))
    assert "By gain in log-probability instead, these sources cannot tell which is better (" in found.words


def test_an_outcome_without_numbers_does_not_count() -> None:
    rows = [replace(row, estimate=float("nan")) for row in repeated("outcomes", "log_prob_gain")]
    assert verdict(study(*rows)).rule("other outcomes").because == ""


def test_the_verdict_without_negatives_adds_no_words_if_nothing_changes() -> None:
    for rows, outcome in ((negatives(0), "none"), (negatives(7), "no"), ([], "unknown")):
        found = verdict(study(*rows))
        assert found.rule("negatives").outcome == outcome
        assert found.words == verdict(study()).words


def test_a_verdict_that_depends_on_negatives_says_so() -> None:
    found = verdict(study(*negatives(7, js=(-0.1, *UNSURE))))
    assert found.rule("negatives").outcome == "depends on them"
    assert (
        "Without the 7 dyads whose target was a trained negative, JS is not shown to predict leakage "
        "(ρ of JS −0.10, of cosine +0.50)."
    ) in found.words


def test_a_sign_that_turns_given_the_share_of_negatives_is_reported() -> None:
    given = number("negatives", "partial spearman", "js", 0.15, -0.2, 0.4, 0.3)
    found = verdict(study(*negatives(7), replace(given, given="negative_share")))
    assert found.rule("negatives").because == "Given the share of trained negatives, ρ of JS is +0.15."


def test_negatives_everywhere_cannot_be_told_apart() -> None:
    count = Statement(family="negatives", quantity=COUNT, view="check", estimate=50)
    found = verdict(study(count)).rule("negatives")
    assert found.outcome == "cannot tell"
    assert found.because == (
        "The effect of trained negatives cannot be separated: too few dyads are left without the 50 dyads whose target "
        "was a trained negative."
    )
