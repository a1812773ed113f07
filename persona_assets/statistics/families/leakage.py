"""Correlations of leakage with each predictor, alone and given the others."""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics import weighted
from persona_assets.statistics.correlations import (
    COEFFICIENTS,
    AnyCoefficient,
    correlation,
    effective_n,
    iid_correlation,
    iid_partial,
)
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import BOTH, JS, Sample, answered, checks
from persona_assets.statistics.jackknife import jackknife_interval, left_out_weights
from persona_assets.statistics.permutation import two_sided
from persona_assets.statistics.statement import Interval, Statement, UnanswerableError
from persona_assets.statistics.weighted import Coefficient

Floats = NDArray[np.float64]


def correlations(inputs: Inputs, coefficients: Sequence[AnyCoefficient] = COEFFICIENTS) -> list[Statement]:
    """Return correlations of leakage with every predictor; by default Spearman, Pearson and Kendall."""
    rows = []
    for predictor in inputs.looks:
        sample = inputs.sample(predictor)
        for coefficient in coefficients:
            rows += _correlation(sample, predictor, coefficient)
    return rows


def _correlation(sample: Sample, predictor: str, coefficient: AnyCoefficient) -> list[Statement]:
    about = partial(
        Statement,
        family="leakage",
        quantity=coefficient,
        outcome=sample.dyads.outcome_name,
        predictor=predictor,
        n=sample.dyads.n,
    )
    x, y, level = sample.dyads.at(predictor), sample.dyads.outcome, sample.settings.level

    def iid() -> dict[str, object]:
        estimate, interval, p = iid_correlation(x, y, coefficient, level, names=(predictor, sample.dyads.outcome_name))
        return {"estimate": estimate, "interval": interval, "p": p, "n_effective": sample.dyads.n}

    if coefficient == "kendall":
        return [answered(about, "iid", iid), answered(about, "dyadic", lambda: _kendall(sample, predictor))]
    place = sample.variable(predictor)

    def value(matrices: Floats) -> Floats:
        return np.asarray(matrices[:, 0, place])

    def dyadic() -> dict[str, object]:
        sample.require_varying(predictor)
        interval = sample.bootstrap(sample.ways[0], coefficient, value)
        p = two_sided(sample.relabelled(coefficient)[:, place - 1], sample.relabellings)
        return with_interval(iid_correlation(x, y, coefficient, level)[0], interval, coefficient, p=p, seed=sample.seed)

    rows = [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]
    if coefficient != "spearman":
        return rows

    def estimate() -> float:
        sample.require_varying(predictor)
        return float(value(sample.observed["spearman"][None])[0])

    ways = (
        lambda: with_interval(
            estimate(),
            sample.bootstrap(sample.ways[1], "spearman", value),
            "spearman",
            seed=sample.seed_of(sample.ways[1]),
        ),
        lambda: with_interval(estimate(), sample.jackknife("spearman", value), "spearman"),
    )
    return [*rows, *checks(about, ways)]


def _kendall(sample: Sample, predictor: str) -> dict[str, object]:
    """Return τ with a jackknife interval over sources, because bootstrapping τ costs n² per resample."""
    sample.require_varying(predictor)
    x, y, sources = sample.dyads.at(predictor), sample.dyads.outcome, len(sample.dyads.sources)
    kept = left_out_weights(sample.dyads.source).astype(bool)
    interval = jackknife_interval(
        tau(x, y),
        np.array([tau(x[rows], y[rows]) for rows in kept]),
        sample.settings.level,
        method=f"jackknife, delete one of {sources} sources, Fisher z, t({sources - 1})",
        structure="a source with all its dyads is one cluster",
    )
    note = "for p see Spearman, whose permutation test on ranks has the same null hypothesis"
    return {**with_interval(tau(x, y), interval, "kendall"), "note": note}


def tau(x: Floats, y: Floats) -> float:
    """Return Kendall's τ-b; NaN if it is undefined."""
    try:
        return correlation(x, y, "kendall")
    except UnanswerableError:
        return math.nan


def with_interval(estimate: float, interval: Interval, coefficient: str, **more: object) -> dict[str, object]:
    """Return estimate, interval, and the number of independent dyads that would give an interval of the same width."""
    return {
        "estimate": estimate,
        "interval": interval,
        "n_effective": effective_n(estimate, interval, coefficient),
        **more,
    }


def partial_correlations(inputs: Inputs) -> list[Statement]:
    """Return partial and semi-partial correlations of leakage with JS given each cosine, and vice versa."""
    rows = []
    for cosine in inputs.cosines if JS in inputs.looks else ():
        sample = inputs.sample(cosine)
        for coefficient in BOTH:
            for predictor, given in ((JS, cosine), (cosine, JS)):
                rows += partial_correlation(sample, predictor, given, coefficient, semi=False)
                rows += partial_correlation(sample, predictor, given, coefficient, semi=True)
    return rows


def partial_correlation(
    sample: Sample, predictor: str, given: str, coefficient: Coefficient, semi: bool
) -> list[Statement]:
    """Return the partial or semi-partial correlation of leakage with a predictor given another one, in both views."""
    quantity = f"{'semi-partial' if semi else 'partial'} {coefficient}"
    about = partial(
        Statement,
        family="leakage",
        quantity=quantity,
        outcome=sample.dyads.outcome_name,
        predictor=predictor,
        given=given,
        n=sample.dyads.n,
    )
    x, y, z = sample.dyads.at(predictor), sample.dyads.outcome, sample.dyads.at(given)[None]
    names, level = (predictor, sample.dyads.outcome_name), sample.settings.level
    place, others = sample.variable(predictor), [sample.variable(given)]
    of = weighted.semi_partial if semi else weighted.partial

    def iid() -> dict[str, object]:
        sample.require_varying(predictor, given)
        estimate, interval, p = iid_partial(x, y, z, coefficient, level, semi, names=names)
        return {"estimate": estimate, "interval": interval, "p": p, "n_effective": sample.dyads.n}

    def dyadic() -> dict[str, object]:
        sample.require_varying(predictor, given)
        estimate = float(of(sample.observed[coefficient][None], place, others)[0])
        interval = sample.bootstrap(sample.ways[0], coefficient, lambda matrices: of(matrices, place, others))
        p = sample.p_given(predictor, given, coefficient)
        return with_interval(estimate, interval, coefficient, p=p, seed=sample.seed)

    return [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]
