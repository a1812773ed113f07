"""Whether JS and the cosine predict leakage within kinds of personas, and agree with each other there."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS, answered
from persona_assets.statistics.kinds import (
    REFERENCE,
    inverted,
    kind_permutations,
    pairs_within_kinds,
    require_distinct,
    within_kinds,
)
from persona_assets.statistics.labels import LabelPermutations
from persona_assets.statistics.permutation import two_sided
from persona_assets.statistics.statement import Statement, UnanswerableError

Floats = NDArray[np.float64]

FAMILY = "kinds"
WITHIN, DIFFERENCE, PAIRS = (
    "spearman within kinds",
    "difference of |spearman| within kinds",
    "spearman over pairs within kinds",
)
_METHOD = "permutation within kinds"
_RANKS = "ranks less the mean rank of each pair of kinds; predictors are ranked over all pairs that relabelling reaches"
_EQUAL = "p and interval assume that the difference varies as it does if neither predictor is related"
# Start of a method's name → how often it rejected at 5 % in simulated studies without a relation, by design: the
# smallest and the largest mean over outcomes, with kinds that are tight and leak to each other with sd 1.
_REJECTED = {"QAP": "7–71%", "MRQAP": "7–28%", "Mantel": "61–100%", "partial Mantel": "24–78%"}
_TOO_OFTEN = (
    "if kinds of personas shape both measures, this test rejected {} of true null hypotheses at 5% in simulations "
    "(benchmarks/results/calibration.md)"
)


def kinds(inputs: Inputs) -> list[Statement]:
    """Return ρ of leakage with JS and the primary cosine, their difference, and ρ of both over pairs, within kinds.

    Empty if the personas are all of one kind or all of different kinds, so that there is nothing to remove or to
    permute.
    """
    if not come_in_kinds(inputs):
        return []
    looks = tuple(name for name in (JS, inputs.primary) if name in inputs.dyads.predictors)
    settings, dyads = inputs.settings, inputs.dyads.known(*looks)

    @cache
    def permutations() -> LabelPermutations:
        if not dyads.n:
            raise UnanswerableError(f"no dyad has both leakage and {' and '.join(looks)}")
        return kind_permutations(dyads, looks, settings.permutations, settings.seed, settings.level)

    @cache
    def relabelled(name: str) -> Floats:
        return within_kinds(dyads, name, permutations())

    about = partial(Statement, family=FAMILY, outcome=dyads.outcome_name, n=dyads.n)

    def correlation(name: str) -> dict[str, object]:
        return _test(inputs, relabelled(name), permutations(), fisher=True)

    def difference() -> dict[str, object]:
        # The observed signs are kept, so that relabelled values spread as a difference of correlations does, not as
        # that of their sizes, which is narrower near 0.
        first, second = (np.copysign(1.0, relabelled(name)[0]) * relabelled(name) for name in looks)
        return _test(inputs, first - second, permutations(), fisher=False)

    rows = [
        answered(partial(about, quantity=WITHIN, predictor=name, note=_RANKS), "dyadic", partial(correlation, name))
        for name in looks
    ]
    if len(looks) < 2:
        return rows
    apart = partial(about, quantity=DIFFERENCE, predictor=" − ".join(looks), note=_EQUAL)
    return [*rows, answered(apart, "dyadic", difference), _pairs(inputs)]


def come_in_kinds(inputs: Inputs) -> bool:
    """Return whether the personas are of more than one kind, and at least two of them of the same kind."""
    return 1 < len(set(inputs.dyads.categories)) < len(inputs.dyads.personas)


def labelled(inputs: Inputs, statements: list[Statement]) -> list[Statement]:
    """Return the statements; p from relabelling everyone is labelled with its error rate if personas come in kinds."""
    if not come_in_kinds(inputs):
        return statements
    result = []
    for row in statements:
        rejected = next((share for method, share in _REJECTED.items() if row.p and row.p.method.startswith(method)), "")
        note = "; ".join(text for text in (row.note, _TOO_OFTEN.format(rejected) if rejected else "") if text)
        result.append(replace(row, note=note))
    return result


def _pairs(inputs: Inputs) -> Statement:
    personas = len(inputs.dyads.personas)
    about = partial(
        Statement,
        family=FAMILY,
        quantity=PAIRS,
        outcome=JS,
        predictor=inputs.primary,
        n=personas * (personas - 1) // 2,
        note=_RANKS.partition(";")[0],
    )

    def dyadic() -> dict[str, object]:
        settings, dyads = inputs.settings, inputs.dyads
        js, cosine = inputs.matrix(JS), inputs.matrix(inputs.primary)
        perms = kind_permutations(dyads, (JS, inputs.primary), settings.permutations, settings.seed, settings.level)
        samples = pairs_within_kinds(cosine, js, dyads.categories, perms)
        return _test(inputs, samples, perms, fisher=True)

    return answered(about, "dyadic", dyadic)


def _test(inputs: Inputs, samples: Floats, perms: LabelPermutations, fisher: bool) -> dict[str, object]:
    require_distinct(samples, perms, inputs.settings.level)
    return {
        "estimate": float(samples[0]),
        "interval": inverted(samples, inputs.settings.level, perms, fisher),
        "p": two_sided(samples, perms, _METHOD, REFERENCE),
        "seed": None if perms.exact else inputs.settings.seed,
    }
