"""Synthetic statements of every kind that the figures draw; nothing was measured."""

import itertools
import math
from collections.abc import Sequence

import pandas as pd

from persona_assets.statistics import Statement, tabulate
from tests.presentation.by_hand import statement

PRIMARY = "cosine_study_layer21"
CHOSEN = "the choice that the verdict is about"
COEFFICIENTS = ("spearman", "pearson", "kendall")
COMPONENTS = {
    "source": 1.4,
    "target": 0.9,
    "source × target": 1.1,
    "seed": 0.7,
    "seed × target": math.nan,
    "question": 0.4,
    "reply": 0.25,
    "residual": 0.1,
}
DYADS = ("all dyads", "sources off the floor", "without the baseline as target")


def made_statements(names: Sequence[str], layers: Sequence[int], sources: Sequence[str]) -> pd.DataFrame:
    """Return statements about personas `names`, some of them sources, with one cosine per layer of `study`."""
    cosines = [f"cosine_study_layer{layer}" for layer in layers]
    return tabulate(
        [
            *_both("leakage", "spearman", "js", "leakage_rate", -0.72, 5e-10, 0.002),
            *_both("pairs", "spearman over pairs", cosines[0], "js", -0.61, 3e-6, math.nan),
            *(
                row
                for place, cosine in enumerate(cosines)
                for row in (
                    *_both("leakage", "spearman", cosine, "leakage_rate", 0.3 + 0.1 * place, 0.004, 0.01),
                    *_both("coupling", "pearson", cosine, "source_rate", -0.4, 0.09, 0.11),
                    *_both("coupling", "pearson", cosine, "js", -0.5, 0.14, 0.14),
                )
            ),
            *_both("coupling", "pearson", "js", "source_rate", 0.54, 0.11, 0.1),
            *_looks(cosines),
            *_influence(names, sources),
        ]
    )


def made_reliability() -> list[Statement]:
    """Return reliabilities, corrected correlations, variance components and results of other outcomes."""
    return [
        *_both("outcomes", "spearman", "js", "leakage_rate", -0.49, 1e-4, 0.03),
        *_both("outcomes", "spearman", PRIMARY, "leakage_rate", 0.62, 1e-6, 0.01),
        *_both("outcomes", "difference of |spearman|", f"js − {PRIMARY}", "leakage_rate", -0.13, 0.3, 0.5),
        *_both("outcomes", "spearman", "js", "log_prob_gain", -0.73, 1e-9, 0.002),
        *_both("outcomes", "spearman", PRIMARY, "log_prob_gain", 0.52, 1e-5, 0.02),
        *_both("outcomes", "difference of |spearman|", f"js − {PRIMARY}", "log_prob_gain", 0.21, 0.02, 0.09),
        *(
            statement("noise", quantity, "check", predictor, estimate, outcome=outcome, low=low, high=high)
            for outcome, halves, seeds in (
                ("expected_rate", 0.94, 0.81),
                ("leakage_rate", 0.71, 0.62),
                ("log_prob_gain", 0.97, 0.9),
            )
            for quantity, predictor, estimate, low, high in (
                ("reliability, halves of questions", "", halves, math.nan, math.nan),
                ("reliability, training seeds", "", seeds, math.nan, math.nan),
                ("reliability, questions and seeds", "", halves + seeds - 1, math.nan, math.nan),
                ("spearman corrected for attenuation", "js", -0.72 / halves**0.5, -0.95, -0.4),
                ("spearman corrected for attenuation", PRIMARY, 0.55 / halves**0.5, 0.2, 0.83),
            )
        ),
        *(
            statement(
                *("noise", f"variance component: {name}", "check", "", variance),
                outcome="log_prob_gain",
                note="" if variance == variance else "not computed: it has the same levels as source × target",
            )
            for name, variance in COMPONENTS.items()
        ),
    ]


def _both(
    family: str, quantity: str, predictor: str, outcome: str, estimate: float, iid: float, dyadic: float
) -> list[Statement]:
    half = {"iid": 0.12, "dyadic": 0.22}
    ps = {"iid": iid, "dyadic": dyadic}
    return [
        statement(
            family,
            quantity,
            view,
            predictor,
            estimate,
            low=max(-0.99, estimate - half[view]),
            high=min(0.99, estimate + half[view]),
            p=ps[view],
            outcome=outcome,
        )
        for view in ("iid", "dyadic")
    ]


def _looks(cosines: Sequence[str]) -> list[Statement]:
    rows = []
    for place, (predictor, coefficient, dyads) in enumerate(itertools.product(("js", *cosines), COEFFICIENTS, DYADS)):
        strength = math.sin(1.7 * place) * 0.3 + 0.45
        chosen = predictor in ("js", PRIMARY) and coefficient == "spearman" and dyads == "all dyads"
        estimate = -strength if predictor == "js" else strength
        quantity, note = f"{coefficient}, {dyads}", CHOSEN if chosen else ""
        rows.append(statement("looks", quantity, "check", predictor, estimate, note=note))
    return rows


def _influence(names: Sequence[str], sources: Sequence[str]) -> list[Statement]:
    left_out = [("source", name) for name in sources] + [("persona", name) for name in names]
    return [
        statement("influence", f"spearman without {kind} {name}", "check", predictor, sign * (0.6 + 0.02 * place), n=40)
        for place, (kind, name) in enumerate(left_out)
        for predictor, sign in (("js", -1.0), (PRIMARY, 0.9))
    ]
