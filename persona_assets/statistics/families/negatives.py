"""Trained negatives: the results without the dyads whose target was trained on unmarked, and given its share.

Training on a target's unmarked replies holds its leakage down whatever its likeness to the source is. If such targets
happen to lie far from the source, likeness seems to predict leakage.
"""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dyads import NEGATIVE, NEGATIVE_SHARE, Dyads
from persona_assets.statistics.families.comparison import comparisons
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.leakage import correlations, partial_correlation
from persona_assets.statistics.families.sample import JS, Sample
from persona_assets.statistics.statement import Statement

Floats = NDArray[np.float64]

COUNT = "trained negatives"
WITHOUT = " without trained negatives"


def negatives(inputs: Inputs) -> list[Statement]:
    """Return the number of trained negatives, and if there are any, the results without them and given their share."""
    dyads = inputs.dyads
    about = partial(Statement, family="negatives", quantity=COUNT, view="check", n=dyads.n)
    flags = _flags(dyads)
    if np.isnan(flags).all():
        why = "the table does not say which targets were trained negatives of a source"
        return [about(unanswerable=why)]
    unknown = int(np.isnan(flags).sum())
    note = f"unknown in {unknown} of {dyads.n} dyads, which are left out of the results without them" if unknown else ""
    rows = [about(estimate=float((flags == 1).sum()), note=note)]
    if not (flags == 1).any():
        return rows
    if not (flags == 0).any():
        why = "every target was a trained negative of its source"
        return [*rows, replace(rows[0], quantity=f"spearman{WITHOUT}", estimate=np.nan, unanswerable=why)]
    left = replace(inputs, dyads=dyads.keep(flags == 0), replies=None)
    found = (*correlations(left, ("spearman",)), *comparisons(left, ("spearman",)))
    rows += [replace(row, family="negatives", quantity=f"{row.quantity}{WITHOUT}") for row in found]
    share = NEGATIVE_SHARE if NEGATIVE_SHARE in dyads.predictors else NEGATIVE
    for predictor in (JS, inputs.primary):
        if predictor in inputs.looks:
            sample = Sample(dyads.known(predictor, share), (predictor, share), inputs.settings)
            given = partial_correlation(sample, predictor, share, "spearman", semi=False)
            rows += [replace(row, family="negatives") for row in given]
    return rows


def _flags(dyads: Dyads) -> Floats:
    """Return 1 where the target was a trained negative of the source, 0 where it was not, NaN where that is unknown."""
    if NEGATIVE in dyads.predictors:
        return dyads.at(NEGATIVE)
    if NEGATIVE_SHARE not in dyads.predictors:
        return np.full(dyads.n, np.nan)
    share = dyads.at(NEGATIVE_SHARE)
    return np.where(np.isnan(share), np.nan, share > 0)
