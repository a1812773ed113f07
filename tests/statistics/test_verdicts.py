"""The verdict's rules, on hand-made tables of statements."""

import math
from typing import Any

import pandas as pd
import pytest

from persona_assets.statistics import primary_of, verdict
from persona_assets.statistics.families.looks import CHOSEN
from persona_assets.statistics.statement import Interval, PValue, Statement, View, tabulate

COSINE = "cosine_study_layer20"
SURE = (-0.9, -0.5, 0.001)
UNSURE = (-0.9, 0.1, 0.2)


def number(
    family: str,
    quantity: str,
    predictor: str,
    estimate: float,
    low: float,
    high: float,
    p: float,
    *,
    view: View = "dyadic",
    level: float = 0.95,
) -> Statement:
    said = {"method": f"{view} of {low} to {high}", "structure": "by hand", "reference": "none"}
    return Statement(
        family=family,
        quantity=quantity,
        outcome="leakage_rate",
        predictor=predictor,
        view=view,
        estimate=estimate,
        interval=Interval(low=low, high=high, level=level, **said),
        p=PValue(p=p, smallest=0.0, **said) if not math.isnan(p) else None,
    )


def rho(predictor: str, estimate: float, low: float, high: float, p: float, **more: Any) -> Statement:
    return number("leakage", "spearman", predictor, estimate, low, high, p, **more)


def difference(cosine: str, estimate: float, low: float, high: float, p: float, **more: Any) -> Statement:
    return number("comparison", "difference of |spearman|", f"js − {cosine}", estimate, low, high, p, **more)


def chosen(predictor: str, **more: Any) -> Statement:
    about = {"family": "looks", "quantity": "spearman, all dyads", "outcome": "leakage_rate", "predictor": predictor}
    return Statement(**about, view="check", note=CHOSEN, **more)


def count(quantity: str, estimate: float, note: str = "") -> Statement:
    return Statement(family="design", quantity=quantity, view="check", estimate=estimate, note=note)


def without(persona: str, estimate: float) -> Statement:
    quantity, predictor = f"difference of |spearman| without persona {persona}", f"js − {COSINE}"
    about = {"family": "influence", "quantity": quantity, "outcome": "leakage_rate", "predictor": predictor}
    return Statement(**about, view="check", estimate=estimate)


def needed(estimate: float, note: str = "") -> Statement:
    about = {"family": "power", "quantity": "sources needed for power 0.8", "predictor": f"js − {COSINE}"}
    return Statement(**about, view="check", estimate=estimate, note=note)


def study(*more: Statement, js: Any = SURE, cosine: Any = SURE, apart: Any = (0.2, -0.1, 0.3, 0.4)) -> pd.DataFrame:
    """Make statements of five sources: JS and cosine as (low, high, p), the difference as (estimate, low, high, p)."""
    statements = [
        count("sources", 5, "a, b, c, d, e"),
        count("sources on the floor", 0, "none: no target leaks more than 2%"),
        rho("js", -0.7, *js),
        rho(COSINE, 0.5, -cosine[1], -cosine[0], cosine[2]),
        difference(COSINE, *apart),
        chosen("js", estimate=-0.7),
        chosen(COSINE, estimate=0.5),
    ]
    return tabulate([*more, *statements])


@pytest.mark.parametrize(
    ("low", "high", "p", "outcome"),
    [
        (-0.9, -0.5, 0.01, "predicts"),
        (0.5, 0.9, 0.01, "predicts"),
        (-0.9, -0.5, 0.06, "may predict"),
        (-0.9, 0.1, 0.01, "may predict"),
        (-0.9, 0.1, 0.2, "is not shown to predict"),
        (-0.9, 0.0, 0.2, "is not shown to predict"),
    ],
)
def test_predicts_needs_both_p_and_the_interval(low: float, high: float, p: float, outcome: str) -> None:
    found = verdict(study(js=(low, high, p)))
    assert found.rule("JS predicts").outcome == outcome
    assert found.rule("cosine predicts").outcome == "predicts"
    assert found.rule("JS predicts").because.startswith("ρ −0.70, 95% ")


@pytest.mark.parametrize("level", [0.8, 0.9, 0.95, 0.975, 0.99])
def test_p_at_the_level_itself_counts(level: float) -> None:
    # 1 − 0.9 is slightly less than 0.1 in floating point
    alpha = round(1 - level, 3)
    rows = [
        count("sources", 5),
        count("sources on the floor", 0, "none: no target"),
        rho("js", -0.7, -0.9, -0.5, alpha, level=level),
        rho(COSINE, 0.5, 0.3, 0.7, alpha + 1e-6, level=level),
        difference(COSINE, 0.2, 0.1, 0.3, alpha, level=level),
        chosen(COSINE, estimate=0.5),
    ]
    found = verdict(tabulate(rows))
    assert found.rule("JS predicts").outcome == "predicts"
    assert found.rule("cosine predicts").outcome == "may predict"
    assert found.rule("leads").outcome == "JS"
    assert f"(difference of |ρ| +0.20, {100 * level:g}% +0.10 to +0.30)" in found.words


@pytest.mark.parametrize(
    ("js", "cosine", "words"),
    [
        (SURE, SURE, "JS and cosine (layer 20, centred on study) both predict leakage; "),
        (UNSURE, UNSURE, "JS and cosine (layer 20, centred on study) are both not shown to predict leakage; "),
        (
            (-0.9, -0.5, 0.2),
            (*UNSURE[:2], 0.01),
            "JS and cosine (layer 20, centred on study) may both predict leakage; ",
        ),
        (SURE, UNSURE, "JS predicts leakage, cosine (layer 20, centred on study) is not shown to predict it; "),
        (
            UNSURE,
            (-0.9, -0.5, 0.2),
            "JS is not shown to predict leakage, cosine (layer 20, centred on study) may predict",
        ),
    ],
)
def test_the_first_sentence_covers_both_predictors(js: Any, cosine: Any, words: str) -> None:
    assert verdict(study(js=js, cosine=cosine)).words.startswith(words)


@pytest.mark.parametrize(
    ("apart", "outcome", "words"),
    [
        ((0.2, 0.1, 0.3, 0.01), "JS", "; JS predicts better (difference of |ρ| +0.20, 95% +0.10 to +0.30)."),
        (
            (-0.2, -0.3, -0.1, 0.01),
            "cosine",
            "; cosine (layer 20, centred on study) predicts better (difference of |ρ| −0.20, 95% −0.30 to −0.10).",
        ),
        (
            (0.18, -0.12, 0.3, 0.3),
            "inconclusive",
            "; these 5 sources cannot tell which is better (difference of |ρ| +0.18, 95% −0.12 to +0.30).",
        ),
        (
            (0.2, 0.1, 0.3, 0.06),
            "inconclusive",
            "cannot tell which is better (difference of |ρ| +0.20, 95% +0.10 to +0.30, but p = 0.06).",
        ),
        ((0.2, -0.1, 0.3, 0.01), "inconclusive", "; these 5 sources cannot tell which is better"),
    ],
)
def test_leads_needs_both_p_and_the_interval(apart: Any, outcome: str, words: str) -> None:
    found = verdict(study(apart=apart))
    assert found.rule("leads").outcome == outcome
    assert words in found.words


def test_leads_needs_every_interval_to_exclude_0() -> None:
    apart = (0.2, 0.1, 0.3, 0.01)
    agrees, doubts = (difference(COSINE, 0.2, low, 0.4, math.nan, view="check") for low in (0.05, -0.05))
    assert verdict(study(agrees, apart=apart)).rule("leads").outcome == "JS"
    doubted = verdict(study(agrees, doubts, apart=apart))
    assert doubted.rule("leads").outcome == "inconclusive"
    assert "95% +0.10 to +0.30, but another interval −0.05 to +0.40)" in doubted.words
    unsure = verdict(study(agrees, doubts, apart=(0.2, 0.1, 0.3, 0.06)))
    assert ", but p = 0.06 and another interval −0.05 to +0.40)" in unsure.words


def test_iid_statements_do_not_affect_the_verdict() -> None:
    iid = [
        rho("js", -0.7, -0.71, -0.69, 1e-9, view="iid"),
        rho(COSINE, 0.5, 0.49, 0.51, 1e-9, view="iid"),
        difference(COSINE, 0.2, 0.19, 0.21, 1e-9, view="iid"),
    ]
    with_iid, alone = (verdict(study(*more, js=UNSURE, cosine=UNSURE)) for more in (iid, []))
    assert with_iid == alone
    assert with_iid.rule("leads").outcome == "inconclusive"


def test_a_reversed_order_names_the_cosine_that_reverses_it_most() -> None:
    looks = [
        difference("cosine_study_layer10", 0.1, -0.1, 0.2, 0.5),
        difference("cosine_111_personas_layer15", -0.01, -0.2, 0.1, 0.9),
        difference("cosine_111_personas_layer20", -0.02, -0.2, 0.1, 0.9),
    ]
    rule = verdict(study(*looks)).rule("holds")
    assert rule.outcome == "no"
    assert rule.because == (
        "With 2 of the 4 cosines examined, the cosine leads instead, "
        "most clearly with cosine (layer 20, centred on 111 personas) (−0.02)."
    )
    turned = verdict(study(looks[0], apart=(-0.2, -0.3, 0.1, 0.4))).rule("holds")
    assert "With 1 of the 2 cosines examined, JS leads instead" in turned.because


def test_an_order_that_no_cosine_reverses_holds() -> None:
    found = verdict(study(difference("cosine_study_layer10", 0.1, -0.1, 0.2, 0.5)))
    assert found.rule("holds").outcome == "yes"
    assert "cosines examined" not in found.words
    assert verdict(study()).rule("holds").outcome == "one look only"


@pytest.mark.parametrize(
    ("left", "outcome", "because"),
    [
        ({"comedian": 0.03, "villain": 0.25}, "comedian", "Without comedian the difference is +0.03."),
        ({"comedian": 0.22, "villain": -0.01}, "villain", "Without villain the difference is −0.01."),
        ({"comedian": 0.22, "villain": 0.31}, "villain", "Without villain the difference is +0.31."),
        ({"comedian": 0.22, "villain": 0.11}, "nobody", ""),
        ({"comedian": math.nan}, "unknown", ""),
    ],
)
def test_the_persona_that_the_difference_rests_on_is_named(left: dict[str, float], outcome: str, because: str) -> None:
    rows = [without(persona, value) for persona, value in left.items()]
    rule = verdict(study(*rows)).rule("rests on")
    assert (rule.outcome, rule.because) == (outcome, because)


def test_a_small_difference_rests_on_the_persona_that_flips_it() -> None:
    rule = verdict(study(without("villain", -0.01), apart=(0.02, -0.1, 0.2, 0.8))).rule("rests on")
    assert rule.outcome == "villain"


def test_sources_on_the_floor_are_named() -> None:
    floor = count("sources on the floor", 2, "villain, comedian: no target leaks more than 2%")
    found = verdict(study(floor))
    assert found.rule("floor").outcome == "2"
    assert "2 of 5 sources (villain, comedian) sit on the floor." in found.words
    assert "floor" not in verdict(study()).words


@pytest.mark.parametrize(
    ("row", "outcome", "words"),
    [
        (needed(55, "assumes much; and more"), "55", "would take about 55 sources."),
        (
            needed(math.nan, "more than 160; assumes much; and more"),
            "more than 160",
            "would take more than 160 sources.",
        ),
    ],
)
def test_the_number_of_sources_needed_is_reported(row: Statement, outcome: str, words: str) -> None:
    found = verdict(study(row))
    assert found.rule("would take").outcome == outcome
    assert found.words.endswith(f"Detecting this difference with 80% power {words}")


def test_unknown_power_is_left_out() -> None:
    unknown = Statement(
        family="power", quantity="sources needed for power 0.8", view="check", unanswerable="no marker was found"
    )
    for found in (verdict(study(unknown)), verdict(study())):
        assert found.rule("would take").outcome == "unknown"
        assert "80% power" not in found.words


def test_the_verdicts_text_follows_the_order_of_the_rules() -> None:
    rows = [
        difference("cosine_111_personas_layer20", -0.02, -0.2, 0.1, 0.9),
        without("comedian", 0.03),
        count("sources on the floor", 2, "villain, comedian: no target leaks more than 2%"),
        needed(math.nan, "more than 160; assumes much"),
    ]
    found = verdict(study(*rows, apart=(0.18, -0.12, 0.30, 0.3)))
    assert found.words == (
        "JS and cosine (layer 20, centred on study) both predict leakage; these 5 sources cannot tell which is better "
        "(difference of |ρ| +0.18, 95% −0.12 to +0.30). With 1 of the 2 cosines examined, the cosine leads instead, "
        "most clearly with cosine (layer 20, centred on 111 personas) (−0.02). Without comedian the difference is "
        "+0.03. 2 of 5 sources (villain, comedian) sit on the floor. Detecting this difference with 80% power would "
        "take more than 160 sources."
    )
    names = ["JS predicts", "cosine predicts", "leads", "holds", "rests on", "within kinds", "negatives"]
    assert [rule.name for rule in found.rules] == [*names, "other outcomes", "floor", "would take"]


def unanswered(row: Statement, why: str) -> Statement:
    about = {"family": row.family, "quantity": row.quantity, "outcome": row.outcome, "predictor": row.predictor}
    return Statement(**about, view=row.view, unanswerable=why, note=row.note)


@pytest.mark.parametrize("missing", ["js", "cosine", "difference"])
def test_the_reason_is_that_of_the_missing_row(missing: str) -> None:
    rows = {
        "js": rho("js", -0.7, *SURE),
        "cosine": rho(COSINE, 0.5, 0.3, 0.7, 0.01),
        "difference": difference(COSINE, 0.2, 0.1, 0.3, 0.01),
    }
    rows[missing] = unanswered(rows[missing], "there are 2 sources; resampling needs at least 3")
    elsewhere = unanswered(needed(1), "of something else")
    found = verdict(tabulate([elsewhere, *rows.values(), chosen("js", estimate=-0.7), chosen(COSINE, estimate=0.5)]))
    assert found.words == (
        "The comparison of JS with cosine was not computed: there are 2 sources; resampling needs at least 3."
    )
    assert found.rule("answerable").outcome == "no"


def test_a_table_without_cosine_or_without_js_says_that() -> None:
    elsewhere = unanswered(needed(1), "of something else")
    of_js = tabulate([elsewhere, rho("js", -0.7, *SURE), chosen("js", estimate=-0.7)])
    assert verdict(of_js).words.endswith("not computed: the pair table has no cosine column.")
    of_cosine = tabulate([elsewhere, rho(COSINE, 0.5, 0.3, 0.7, 0.01), chosen(COSINE, estimate=0.5)])
    assert verdict(of_cosine).words.endswith("not computed: the pair table has no js column.")


def test_a_study_without_leakage_says_that() -> None:
    nothing = Statement(family="leakage", quantity="everything", view="dyadic", unanswerable="leakage was in no dyad")
    words = "The comparison of JS with cosine was not computed: leakage was in no dyad."
    assert verdict(tabulate([nothing])).words == words


def test_the_primary_cosine_is_known_even_if_it_is_constant() -> None:
    assert primary_of(study()) == COSINE
    flat = chosen(COSINE, unanswerable="it is the same in every dyad")
    assert primary_of(tabulate([chosen("js", estimate=-0.7), flat])) == COSINE
    assert primary_of(tabulate([chosen("js", estimate=-0.7)])) == ""
