"""Many looks: p corrected for all of them, and every defensible choice beside the one that is shown."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.statistics.correlations import COEFFICIENTS, correlation, require_varying
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.families.asked import Asked
from persona_assets.statistics.families.sample import JS, OUTCOME
from persona_assets.statistics.permutation import largest_of, shares
from persona_assets.statistics.statement import Statement, UnanswerableError

Floats = NDArray[np.float64]

CHOSEN = "the choice that the verdict is about"
FLOOR = 0.02  # a source none of whose targets leaks more sits on the floor


def corrected(asked: Asked, statements: list[Statement]) -> list[Statement]:
    """The statements with p adjusted for all looks: Spearman of every predictor, and of every difference.

    iid p by Holm (1979); dyadic p by Westfall and Young's (1993) single step over the same relabellings, each look
    weighed by its own p (minP), so that it counts how alike the looks are.
    """
    adjusted: dict[tuple[str, str], tuple[float, str]] = {}
    for quantity in ("spearman", "difference of |spearman|"):
        looks = [row for row in statements if row.quantity == quantity and row.family in ("leakage", "comparison")]
        adjusted |= _holm([row for row in looks if row.view == "iid" and row.p])
        adjusted |= _westfall_young(asked, [row for row in looks if row.view == "dyadic" and row.p])
    result = []
    for row in statements:
        if (row.name, row.view) not in adjusted:
            result.append(row)
            continue
        p, how = adjusted[row.name, row.view]
        if row.p and p < row.p.p:  # it is of the dyads that all looks share
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


def _westfall_young(asked: Asked, rows: list[Statement]) -> dict[tuple[str, str], tuple[float, str]]:
    if not rows:
        return {}
    sample = asked.all_looks
    try:
        relabelled = sample.relabelled("spearman")
    except UnanswerableError as error:  # no relabellings serve all looks
        return {(row.name, row.view): (math.nan, f"p is not adjusted for {len(rows)} looks: {error}") for row in rows}
    columns = []
    for row in rows:
        first, _, second = row.predictor.partition(" − ")
        column = relabelled[:, sample.predictors.index(first)]
        columns.append(np.abs(column) - np.abs(relabelled[:, sample.predictors.index(second)]) if second else column)
    adjusted = largest_of(1.0 - shares(np.stack(columns, axis=1)))
    how = f"p adjusted for {len(rows)} looks: Westfall & Young 1993, minP, {sample.relabellings.structure}"
    return {(row.name, row.view): (float(p), how) for row, p in zip(rows, adjusted, strict=True)}


def specifications(asked: Asked) -> list[Statement]:
    """ρ of every predictor, coefficient and subset of dyads that somebody might defend."""
    subsets = {name: dyads for name, dyads in _subsets(asked).items() if dyads.n}
    predictors = [*asked.looks, *asked.generators]
    return [
        _specification(asked, dyads.known(predictor), predictor, coefficient, subset)
        for subset, dyads in subsets.items()
        for coefficient in COEFFICIENTS
        for predictor in predictors
    ]


def _specification(asked: Asked, dyads: Dyads, predictor: str, coefficient: str, subset: str) -> Statement:
    shown = predictor in (JS, asked.primary) and coefficient == "spearman" and subset == "all dyads"
    statement = Statement(
        family="looks",
        quantity=f"{coefficient}, {subset}",
        outcome=OUTCOME,
        predictor=predictor,
        view="check",
        n=dyads.n,
        note=CHOSEN if shown else "",
    )
    x, y = dyads.at(predictor), dyads.rate
    try:
        require_varying(x, predictor, "dyad")
        require_varying(y, OUTCOME, "dyad")
        return replace(statement, estimate=correlation(x, y, coefficient))
    except UnanswerableError as error:
        return replace(statement, unanswerable=str(error))


def _subsets(asked: Asked) -> dict[str, Dyads]:
    """Dyads with and without the baseline, and those of sources off the floor."""
    dyads = asked.dyads
    baseline = dyads.personas.index(asked.baseline) if asked.baseline in dyads.personas else -1
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
    """Sources that leak to no target more than `FLOOR`."""
    highest = pd.Series(dyads.rate).groupby(dyads.source).max()
    return [int(source) for source in highest.index[highest <= FLOOR]]


def design(asked: Asked) -> list[Statement]:
    """How the dyads came about: counts that every other statement has to be read with."""
    dyads = asked.dyads
    floor = [dyads.personas[source] for source in sources_on_the_floor(dyads)]
    counts = {
        "personas": (len(dyads.personas), ""),
        "sources": (len(dyads.sources), ", ".join(dyads.personas[source] for source in dyads.sources)),
        "targets": (len(dyads.targets), ""),
        "dyads": (dyads.n, ""),
        "sources on the floor": (len(floor), f"{', '.join(floor) or 'none'}: no target leaks more than {FLOOR:.0%}"),
    }
    return [
        Statement(family="design", quantity=quantity, view="check", estimate=float(count), note=note)
        for quantity, (count, note) in counts.items()
    ]
