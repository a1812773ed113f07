"""Agreement of JS and cosine over unordered pairs."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.correlations import COEFFICIENTS, AnyCoefficient, iid_correlation, iid_partial
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.leakage import tau, with_interval
from persona_assets.statistics.families.sample import JS, answered
from persona_assets.statistics.jackknife import jackknife_interval
from persona_assets.statistics.labels import LabelPermutations, label_permutations
from persona_assets.statistics.mantel import mantel, partial_mantel, persona_jackknife
from persona_assets.statistics.statement import Statement, UnanswerableError

Floats = NDArray[np.float64]


def pairs(inputs: Inputs) -> list[Statement]:
    """Return correlations of JS with every cosine over the pairs with both, plain and given shared category."""
    if JS not in inputs.dyads.predictors:
        return []
    settings = inputs.settings
    perms = label_permutations(len(inputs.dyads.personas), settings.permutations, settings.seed)
    rows = []
    for cosine in inputs.cosines:
        for coefficient in COEFFICIENTS:
            rows += _correlation(inputs, cosine, coefficient, perms)
        if np.isfinite(_at_pairs(inputs.matrix(cosine))).all():
            rows += _beside_category(inputs, cosine, perms)
    return rows


def _correlation(inputs: Inputs, cosine: str, coefficient: AnyCoefficient, perms: LabelPermutations) -> list[Statement]:
    js, other, level = inputs.matrix(JS), inputs.matrix(cosine), inputs.settings.level
    x, y = _at_pairs(js), _at_pairs(other)
    known = np.isfinite(x) & np.isfinite(y)
    about = partial(
        Statement,
        family="pairs",
        quantity=f"{coefficient} over pairs",
        outcome=JS,
        predictor=cosine,
        n=int(known.sum()),
    )

    def iid() -> dict[str, object]:
        names = (cosine, JS)
        estimate, interval, p = iid_correlation(y[known], x[known], coefficient, level, "pair", names)
        return {"estimate": estimate, "interval": interval, "p": p, "n_effective": int(known.sum())}

    def dyadic() -> dict[str, object]:
        if coefficient == "kendall":
            return _kendall(js, other, level)
        estimate, p = mantel(js, other, coefficient, perms)
        interval = persona_jackknife(js, other, coefficient, level)
        return with_interval(estimate, interval, coefficient, p=p, seed=None if perms.exact else inputs.settings.seed)

    return [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]


def _kendall(js: Floats, other: Floats, level: float) -> dict[str, object]:
    """Without a persona at a time; for its p see Spearman's row."""
    personas = len(js)
    if not np.isfinite(_at_pairs(other)).all():
        raise UnanswerableError("a cosine is unknown in some pairs; the jackknife over personas needs all pairs")
    left_out = []
    for persona in range(personas):
        kept = np.delete(np.arange(personas), persona)
        x, y = (_at_pairs(matrix[np.ix_(kept, kept)]) for matrix in (js, other))
        left_out.append(tau(x, y))
    estimate = tau(_at_pairs(js), _at_pairs(other))
    interval = jackknife_interval(
        estimate,
        np.array(left_out),
        level,
        method=f"jackknife, delete one of {personas} personas, Fisher z, t({personas - 1})",
        structure="a persona with all its pairs is one observation",
    )
    note = "for p see Spearman, whose permutation test on ranks has the same null hypothesis"
    return {**with_interval(estimate, interval, "kendall"), "note": note}


def _beside_category(inputs: Inputs, cosine: str, perms: LabelPermutations) -> list[Statement]:
    """Return the correlation of JS with cosine given whether the personas share a category: a partial Mantel test."""
    about = partial(
        Statement,
        family="pairs",
        quantity="partial spearman over pairs",
        outcome=JS,
        predictor=cosine,
        given="same category",
        n=len(_at_pairs(inputs.matrix(JS))),
    )
    categories = np.array(inputs.dyads.categories)
    same = (categories[:, None] == categories[None, :]).astype(np.float64)
    level = inputs.settings.level

    def varying() -> None:
        shared = _at_pairs(same)
        if np.ptp(shared) == 0:
            everyone = f"all personas have the same category, {inputs.dyads.categories[0]!r}"
            raise UnanswerableError(everyone if shared[0] else "no two personas share a category")

    def iid() -> dict[str, object]:
        varying()
        x, y = _at_pairs(inputs.matrix(cosine)), _at_pairs(inputs.matrix(JS))
        names = (cosine, JS)
        estimate, interval, p = iid_partial(x, y, _at_pairs(same)[None], "spearman", level, unit="pair", names=names)
        return {"estimate": estimate, "interval": interval, "p": p, "n_effective": len(x)}

    def dyadic() -> dict[str, object]:
        varying()
        js, other = inputs.matrix(JS), inputs.matrix(cosine)
        estimate, p = partial_mantel(js, other, same, "spearman", perms)
        interval = persona_jackknife(js, other, "spearman", level, given=same)
        return with_interval(estimate, interval, "spearman", p=p, seed=None if perms.exact else inputs.settings.seed)

    return [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]


def _at_pairs(matrix: Floats) -> Floats:
    return np.asarray(matrix[np.triu_indices(len(matrix), k=1)])
