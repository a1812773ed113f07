"""Small handmade statements and a verdict like those of `statistics`, including hostile names."""

import math
from typing import Any

import pandas as pd

from persona_assets.statistics import Rule, Statement, Verdict, tabulate
from persona_assets.statistics.statement import Interval, PValue

PRIMARY, OTHER = "cosine_study_layer20", "cosine_111_personas_layer10"
HOSTILE = '<script>alert("\u202e")</script>'
VISIBLE = '<script>alert("U+202E")</script>'
WORDS = f"JS leads (|ρ| +0.20). Without {HOSTILE} the difference is 0. It would take 40 sources."


def statement(family: str, quantity: str, view: Any, predictor: str, estimate: float, **more: Any) -> Statement:
    said = {"method": f"{quantity}, {view}", "structure": "by hand", "reference": "Nobody 1900"}
    low, high, p = more.pop("low", math.nan), more.pop("high", math.nan), more.pop("p", math.nan)
    return Statement(
        family=family,
        quantity=quantity,
        view=view,
        outcome=more.pop("outcome", "leakage_rate"),
        predictor=predictor,
        estimate=estimate,
        interval=None if math.isnan(low) else Interval(low=low, high=high, level=0.95, **said),
        p=None if math.isnan(p) else PValue(p=p, smallest=0.0, **said),
        n=more.pop("n", 50),
        **more,
    )


def count(quantity: str, estimate: float, note: str = "") -> Statement:
    return Statement(family="design", quantity=quantity, view="check", estimate=estimate, note=note)


def statements_by_hand() -> pd.DataFrame:
    """Return statements of each kind, some with names that a hostile file could contain."""
    why = f"{HOSTILE} was never asked"
    return tabulate(
        [
            count("sources", 5, "a, b, c, d, e"),
            count("sources on the floor", 1, f"{HOSTILE}: no target leaks more than 2%"),
            statement("leakage", "spearman", "iid", "js", -0.7456, low=-0.858, high=-0.565, p=5.2e-10),
            statement(
                "leakage", "spearman", "dyadic", "js", -0.7456, low=-0.874, high=-0.524, p=0.002, p_adjusted=0.012
            ),
            statement("leakage", "spearman", "check", "js", -0.7456, low=-0.911, high=-0.333),
            statement("leakage", "spearman", "iid", OTHER, 0.574, low=0.332, high=0.745, p=1.3e-5),
            Statement(
                family="leakage",
                quantity="spearman",
                view="dyadic",
                outcome="leakage_rate",
                predictor=OTHER,
                n=50,
                unanswerable=why,
            ),
            statement("comparison", "difference of |spearman|", "dyadic", f"js − {PRIMARY}", 0.178, low=-0.1, high=0.3),
            statement("models", "R²", "iid", f"js + {PRIMARY}", 0.5214, low=0.4, high=0.6),
            statement("noise", "reliability of JS", "check", "js", 0.988, note="over questions"),
            statement("influence", f"spearman without persona {HOSTILE}", "check", "js", -0.5, n=40),
            statement("looks", "pearson, all dyads", "check", f"cosine_{HOSTILE}_layer3", 0.25),
            statement("power", "power with 5 sources", "check", "js", 0.1, n=None),
            statement("power", "power with 40 sources", "check", "js", 0.8, n=None),
            statement("power", "sources needed for power 0.8", "check", "js", math.nan, n=None, note="more than 160"),
        ]
    )


def verdict_by_hand() -> Verdict:
    """Return a verdict whose words end with the explanations of its rules."""
    return Verdict(
        WORDS,
        (
            Rule("leads", "JS", "|ρ| says so"),
            Rule("holds", "yes", ""),
            Rule("rests on", HOSTILE, f"Without {HOSTILE} the difference is 0."),
            Rule("would take", "40", "It would take 40 sources."),
        ),
    )
