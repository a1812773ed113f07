"""Multiple looks: adjusted p-values, the specification curve, and counts that describe the design."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.statistics.correlations import COEFFICIENTS, correlation, require_varying
from persona_assets.statistics.dyads import RATE, SPOKEN, Dyads
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.sample import JS
from persona_assets.statistics.permutation import largest_of, shares
from persona_assets.statistics.statement import Statement, UnanswerableError

Floats = NDArray[np.float64]

CHOSEN = "the choice that the verdict is about"
FLOOR = 0.02  # a source is on the floor if its highest leakage rate is at most this


def corrected(inputs: Inputs, statements: list[Statement]) -> list[Statement]:
    """Return the statements with p adjusted for all looks: Spearman of every predictor, and every difference.

    iid p are adjusted by Holm (1979). Dyadic p are adjusted by the single-step minP procedure of Westfall and Young
    (1993) over the same relabellings, which accounts for the correlation between looks.
    """
    adjusted: dict[tuple[str, str], tuple[float, str]] = {}
    for quantity in ("spearman", "difference of |spearman|"):
        looks = [row for row in statements if row.quantity == quantity and row.family in ("leakage", "comparison")]
        adjusted |= _holm([row for row in looks if row.view == "iid" and row.p])
        adjusted |= _westfall_young(inputs, [row for row in looks if row.view == "dyadic" and row.p])
    result = []
    for row in statements:
        if (row.name, row.view) not in adjusted:
            result.append(row)
            continue
        p, how = adjusted[row.name, row.view]
        if row.p and p < row.p.p:  # possible because p is adjusted on the dyads that all looks share
            p = row.p.p
        result.append(replace(row, p_adjusted=p, note="; ".join(text for text in (row.note, how) if text)))
    return result


def _holm(rows: list[Statement]) -> dict[tuple[str, str], tuple[float, str]]:
    from statsmodels.stats.multitest import multipletests

    if not rows:
        return {}
    adjusted = multipletests([row.p.p for row in rows if row.p], method="holm")[1]
    how = f"p adjusted for {len(rows)} looks: Holm 1979"
    return {(row.name, row.view): (float(p), how) for row, p in zip(rows, adjusted, strict=True)}


def _westfall_young(inputs: Inputs, rows: list[Statement]) -> dict[tuple[str, str], tuple[float, str]]:
    if not rows:
        return {}
    sample = inputs.all_looks
    try:
        relabelled = sample.relabelled("spearman")
    except UnanswerableError as error:  # no relabellings are valid for all looks
        return {(row.name, row.view): (math.nan, f"p is not adjusted for {len(rows)} looks: {error}") for row in rows}
    columns = []
    for row in rows:
        first, _, second = row.predictor.partition(" − ")
        column = relabelled[:, sample.predictors.index(first)]
        columns.append(np.abs(column) - np.abs(relabelled[:, sample.predictors.index(second)]) if second else column)
    adjusted = largest_of(1.0 - shares(np.stack(columns, axis=1)))
    how = f"p adjusted for {len(rows)} looks: Westfall & Young 1993, minP, {sample.relabellings.structure}"
    return {(row.name, row.view): (float(p), how) for row, p in zip(rows, adjusted, strict=True)}


def specifications(inputs: Inputs) -> list[Statement]:
    """Return the correlation for every defensible choice of predictor, coefficient and subset of dyads."""
    subsets = {name: dyads for name, dyads in _subsets(inputs).items() if dyads.n}
    predictors = [*inputs.looks, *inputs.generators]
    return [
        _specification(inputs, dyads.known(predictor), predictor, coefficient, subset)
        for subset, dyads in subsets.items()
        for coefficient in COEFFICIENTS
        for predictor in predictors
    ]


def _specification(inputs: Inputs, dyads: Dyads, predictor: str, coefficient: str, subset: str) -> Statement:
    shown = predictor in (JS, inputs.primary) and coefficient == "spearman" and subset == "all dyads"
    statement = Statement(
        family="looks",
        quantity=f"{coefficient}, {subset}",
        outcome=dyads.outcome_name,
        predictor=predictor,
        view="check",
        n=dyads.n,
        note=CHOSEN if shown else "",
    )
    x, y = dyads.at(predictor), dyads.outcome
    try:
        require_varying(x, predictor, "dyad")
        require_varying(y, dyads.outcome_name, "dyad")
        return replace(statement, estimate=correlation(x, y, coefficient))
    except UnanswerableError as error:
        return replace(statement, unanswerable=str(error))


def _subsets(inputs: Inputs) -> dict[str, Dyads]:
    """Return dyads with and without the baseline, and those of sources off the floor."""
    dyads = inputs.dyads
    baseline = dyads.personas.index(inputs.baseline) if inputs.baseline in dyads.personas else -1
    floor = np.isin(dyads.source, sources_on_the_floor(dyads))
    subsets = {"all dyads": dyads}
    if (dyads.source == baseline).any():
        subsets["without the baseline as source"] = dyads.keep(dyads.source != baseline)
    if (dyads.target == baseline).any():
        subsets["without the baseline as target"] = dyads.keep(dyads.target != baseline)
    if floor.any():
        subsets["sources off the floor"] = dyads.keep(~floor)
    return subsets


def sources_on_the_floor(dyads: Dyads) -> list[int]:
    """Return the sources whose leakage rate, or expected rate, exceeds `FLOOR` for no target.

    A gain in log-probability has no floor: it differs between targets long before the marker is ever sampled.
    """
    if dyads.outcome_name not in (RATE, "expected_rate"):
        return []
    highest = pd.Series(dyads.outcome).groupby(dyads.source).max()
    return [int(source) for source in highest.index[highest <= FLOOR]]


def design(inputs: Inputs) -> list[Statement]:
    """Return the counts that describe the design: personas, sources, targets, dyads, sources on the floor."""
    dyads = inputs.dyads
    floor = [dyads.personas[source] for source in sources_on_the_floor(dyads)]
    has_floor = dyads.outcome_name in (RATE, "expected_rate")
    on_floor = f"{', '.join(floor) or 'none'}: no target leaks more than {FLOOR:.0%}"
    counts = {
        "personas": (len(dyads.personas), ""),
        "sources": (len(dyads.sources), ", ".join(dyads.personas[source] for source in dyads.sources)),
        "targets": (len(dyads.targets), ""),
        "dyads": (dyads.n, ""),
        "sources on the floor": (len(floor), on_floor if has_floor else f"none: {SPOKEN[dyads.outcome_name]} has none"),
    }
    return [
        Statement(family="design", quantity=quantity, view="check", estimate=float(count), note=note)
        for quantity, (count, note) in counts.items()
    ]
