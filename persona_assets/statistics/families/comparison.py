"""Comparison of JS and each cosine as predictors of leakage."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dependent import aligned, steiger, williams, zou
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import BOTH, JS, Sample, answered, checks
from persona_assets.statistics.permutation import two_sided
from persona_assets.statistics.statement import Statement
from persona_assets.statistics.weighted import Coefficient

Floats = NDArray[np.float64]


def comparisons(inputs: Inputs, coefficients: Sequence[Coefficient] = BOTH) -> list[Statement]:
    """Return statements on |ρ| of JS minus |ρ| of each cosine; positive if JS leads."""
    rows = []
    for cosine in inputs.cosines if JS in inputs.looks else ():
        for coefficient in coefficients:
            rows += _comparison(inputs.sample(cosine), cosine, coefficient)
    return rows


def _comparison(sample: Sample, cosine: str, coefficient: Coefficient) -> list[Statement]:
    about = partial(
        Statement,
        family="comparison",
        quantity=f"difference of |{coefficient}|",
        outcome=sample.dyads.outcome_name,
        predictor=f"{JS} − {cosine}",
        n=sample.dyads.n,
    )
    js, other, level = sample.variable(JS), sample.variable(cosine), sample.settings.level

    def difference(matrices: Floats) -> Floats:
        return np.asarray(np.abs(matrices[:, 0, js]) - np.abs(matrices[:, 0, other]))

    def estimate() -> float:
        sample.require_varying(JS, cosine)
        return float(difference(sample.observed[coefficient][None])[0])

    def iid() -> dict[str, object]:
        sample.require_varying(JS, cosine)
        observed = sample.observed[coefficient]
        triple = aligned(float(observed[0, js]), float(observed[0, other]), float(observed[js, other]))
        return {
            "estimate": estimate(),
            "interval": zou(*triple, sample.dyads.n, level, coefficient),
            "p": steiger(*triple, sample.dyads.n),
            "n_effective": sample.dyads.n,
            "note": f"Williams' test: p = {williams(*triple, sample.dyads.n).p:.3g}",
        }

    def dyadic() -> dict[str, object]:
        sample.require_varying(JS, cosine)
        relabelled = np.abs(sample.relabelled(coefficient))
        return {
            "estimate": estimate(),
            "interval": sample.bootstrap(sample.ways[0], coefficient, difference),
            "p": two_sided(relabelled[:, js - 1] - relabelled[:, other - 1], sample.relabellings),
            "seed": sample.seed,
            "note": "p tests the null hypothesis that neither predictor is related to leakage",
        }

    rows = [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]
    if coefficient != "spearman":
        return rows
    ways = (
        lambda: {
            "estimate": estimate(),
            "interval": sample.bootstrap(sample.ways[1], coefficient, difference),
            "seed": sample.seed_of(sample.ways[1]),
        },
        lambda: {"estimate": estimate(), "interval": sample.jackknife(coefficient, difference, fisher=False)},
    )
    return [*rows, *checks(about, ways)]
