"""Whether JS and the cosine predict leakage within kinds of personas, and agree with each other there."""

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


def kinds(inputs: Inputs) -> list[Statement]:
    """Return ρ of leakage with JS and the primary cosine, their difference, and ρ of both over pairs, within kinds.

    Empty if the personas are all of one kind or all of different kinds, so that there is nothing to remove or to
    permute.
    """
    if not 1 < len(set(inputs.dyads.categories)) < len(inputs.dyads.personas):
        return []
    looks = tuple(name for name in (JS, inputs.primary) if name in inputs.dyads.predictors)

    @cache
    def relabelled() -> tuple[Floats, LabelPermutations, int]:
        settings, dyads = inputs.settings, inputs.dyads.known(*looks)
        if not dyads.n:
            raise UnanswerableError(f"no dyad has both leakage and {' and '.join(looks)}")
        perms = kind_permutations(dyads, looks, settings.permutations, settings.seed, settings.level)
        return within_kinds(dyads, looks, perms), perms, dyads.n

    about = partial(Statement, family=FAMILY, outcome=inputs.dyads.outcome_name)

    def correlation(column: int) -> dict[str, object]:
        samples, perms, n = relabelled()
        return {**_test(inputs, samples[:, column], perms, fisher=True), "n": n}

    def difference() -> dict[str, object]:
        samples, perms, n = relabelled()
        # The observed signs are kept, so that relabelled values spread as a difference of correlations does, not as
        # that of their sizes, which is narrower near 0.
        signed = samples * np.sign(samples[0])
        return {**_test(inputs, signed[:, 0] - signed[:, 1], perms, fisher=False), "n": n}

    rows = [
        answered(partial(about, quantity=WITHIN, predictor=name, note=_RANKS), "dyadic", partial(correlation, column))
        for column, name in enumerate(looks)
    ]
    if len(looks) < 2:
        return rows
    apart = partial(about, quantity=DIFFERENCE, predictor=" − ".join(looks), note=_EQUAL)
    return [*rows, answered(apart, "dyadic", difference), _pairs(inputs)]


def _pairs(inputs: Inputs) -> Statement:
    about = partial(
        Statement, family=FAMILY, quantity=PAIRS, outcome=JS, predictor=inputs.primary, note=_RANKS.partition(";")[0]
    )

    def dyadic() -> dict[str, object]:
        settings, dyads = inputs.settings, inputs.dyads
        js, cosine = inputs.matrix(JS), inputs.matrix(inputs.primary)
        perms = kind_permutations(dyads, (JS, inputs.primary), settings.permutations, settings.seed, settings.level)
        samples = pairs_within_kinds(cosine, js, dyads.categories, perms)
        return {**_test(inputs, samples, perms, fisher=True), "n": len(js) * (len(js) - 1) // 2}

    return answered(about, "dyadic", dyadic)


def _test(inputs: Inputs, samples: Floats, perms: LabelPermutations, fisher: bool) -> dict[str, object]:
    require_distinct(samples, perms, inputs.settings.level)
    return {
        "estimate": float(samples[0]),
        "interval": inverted(samples, inputs.settings.level, perms, fisher),
        "p": two_sided(samples, perms, _METHOD, REFERENCE),
        "seed": None if perms.exact else inputs.settings.seed,
    }
