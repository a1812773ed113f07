"""Do JS and cosine say the same of unordered pairs?"""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.correlations import COEFFICIENTS, AnyCoefficient, iid_correlation, iid_partial
from persona_assets.statistics.families.asked import Asked
from persona_assets.statistics.families.leakage import tau, with_interval
from persona_assets.statistics.families.sample import JS, answered
from persona_assets.statistics.jackknife import jackknife_interval
from persona_assets.statistics.labels import LabelPermutations, label_permutations
from persona_assets.statistics.mantel import mantel, partial_mantel, persona_jackknife
from persona_assets.statistics.statement import Statement, UnanswerableError

Floats = NDArray[np.float64]


def pairs(asked: Asked) -> list[Statement]:
    """JS against every cosine over the pairs at which both are known; then beside shared categories."""
    if JS not in asked.dyads.predictors:
        return []
    settings = asked.settings
    perms = label_permutations(len(asked.dyads.personas), settings.permutations, settings.seed)
    rows = []
    for cosine in asked.cosines:
        for coefficient in COEFFICIENTS:
            rows += _correlation(asked, cosine, coefficient, perms)
        if np.isfinite(_at_pairs(asked.matrix(cosine))).all():
            rows += _beside_category(asked, cosine, perms)
    return rows


def _correlation(asked: Asked, cosine: str, coefficient: AnyCoefficient, perms: LabelPermutations) -> list[Statement]:
    js, other, level = asked.matrix(JS), asked.matrix(cosine), asked.settings.level
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
        return with_interval(estimate, interval, coefficient, p=p, seed=None if perms.exact else asked.settings.seed)

    return [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]


def _kendall(js: Floats, other: Floats, level: float) -> dict[str, object]:
    """Without a persona at a time; relabelling ranks is Spearman's row."""
    personas = len(js)
    if not np.isfinite(_at_pairs(other)).all():
        raise UnanswerableError("a cosine is unknown in some pairs, and leaving a persona out needs all")
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
    note = "for p see Spearman: relabelling asks the same of ranks"
    return {**with_interval(estimate, interval, "kendall"), "note": note}


def _beside_category(asked: Asked, cosine: str, perms: LabelPermutations) -> list[Statement]:
    """JS against cosine given whether the two personas are of one category: a partial Mantel test."""
    about = partial(
        Statement,
        family="pairs",
        quantity="partial spearman over pairs",
        outcome=JS,
        predictor=cosine,
        given="same category",
        n=len(_at_pairs(asked.matrix(JS))),
    )
    categories = np.array(asked.dyads.categories)
    same = (categories[:, None] == categories[None, :]).astype(np.float64)
    level = asked.settings.level

    def varying() -> None:
        shared = _at_pairs(same)
        if np.ptp(shared) == 0:
            everyone = f"all personas are of one category, {asked.dyads.categories[0]!r}"
            raise UnanswerableError(everyone if shared[0] else "no two personas share a category")

    def iid() -> dict[str, object]:
        varying()
        x, y = _at_pairs(asked.matrix(cosine)), _at_pairs(asked.matrix(JS))
        names = (cosine, JS)
        estimate, interval, p = iid_partial(x, y, _at_pairs(same)[None], "spearman", level, unit="pair", names=names)
        return {"estimate": estimate, "interval": interval, "p": p, "n_effective": len(x)}

    def dyadic() -> dict[str, object]:
        varying()
        js, other = asked.matrix(JS), asked.matrix(cosine)
        estimate, p = partial_mantel(js, other, same, "spearman", perms)
        interval = persona_jackknife(js, other, "spearman", level, given=same)
        return with_interval(estimate, interval, "spearman", p=p, seed=None if perms.exact else asked.settings.seed)

    return [answered(about, "iid", iid), answered(about, "dyadic", dyadic)]


def _at_pairs(matrix: Floats) -> Floats:
    return np.asarray(matrix[np.triu_indices(len(matrix), k=1)])
