"""Rank correlation within pairs of kinds, with labels permuted only among personas of one kind.

Personas often come in kinds (professions, nationalities, fictional people) that shape JS and leak to each other for
reasons of their own. Relabelling all personas then tests whether kinds matter, not whether a predictor does: it rejects
up to a quarter of true null hypotheses (benchmarks/results/calibration.md). Two changes answer the question within
kinds:

1. Leakage and predictor are replaced by their ranks less the mean rank of their *cell*, the dyads with the same kind of
   source and kind of target. The correlation of what is left is a partial Spearman correlation given the pair of kinds.
2. Labels are permuted among personas of one kind. Under the null hypothesis that personas of one kind are exchangeable
   in the predictor, every permutation is equally likely, whatever the kinds do to leakage, so p is exact (Anderson &
   ter Braak 2003, J. Stat. Comput. Simul. 73, 85–113; Winkler et al. 2015, NeuroImage 123, 253–268).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.labels import Blocks, LabelPermutations, label_permutations, unknown_cells
from persona_assets.statistics.permutation import ranked_cells, relabelled_cells
from persona_assets.statistics.statement import Interval, UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

REFERENCE = (
    "Anderson & ter Braak 2003, J. Stat. Comput. Simul. 73, 85–113; Winkler et al. 2015, NeuroImage 123, 253–268"
)
_ROUNDING = 1e-10  # a sum of squares of residual ranks below this fraction of the total is zero up to rounding
_PERFECT = 1.0 - 1e-12


def kind_permutations(
    dyads: Dyads,
    predictors: Sequence[str],
    permutations: int,
    seed: int,
    level: float = 0.95,
    exact_up_to: int = 50_000,
) -> LabelPermutations:
    """Return relabellings among personas of one kind that need only known values of the predictors.

    If a predictor is known only for pairs with a source, sources and other personas of a kind are permuted separately.

    Args:
        dyads: the measured dyads, with the personas' categories.
        permutations: number of random relabellings if there are too many to enumerate.
        level: 1 − the largest p that counts as a rejection.
        exact_up_to: enumerate all relabellings if there are at most this many.

    Raises:
        UnanswerableError: fewer than 1 / (1 − level) relabellings exist, so that p cannot be small enough; or they need
            an unknown value.
    """
    kinds = dict.fromkeys(dyads.categories)
    sources = set(dyads.sources.tolist())
    of_kind = {kind: [place for place, own in enumerate(dyads.categories) if own == kind] for kind in kinds}
    apart: Blocks = {
        f"{role} {kind}": members
        for kind, places in of_kind.items()
        for role, members in (
            ("sources", [place for place in places if place in sources]),
            ("others", [place for place in places if place not in sources]),
        )
    }
    unknown = ""
    for blocks, further in ((of_kind, ""), (apart, ", sources and others apart")):
        perms = label_permutations(len(dyads.personas), 1, seed=0, blocks=blocks, exact_up_to=0)
        if unknown := unknown_cells(dyads, predictors, perms):
            continue
        ways = math.prod(math.factorial(len(members)) for members in blocks.values())
        if ways < (fewest := math.ceil(round(1 / (1 - level), 9))):
            raise UnanswerableError(
                f"the personas of {len(kinds)} kinds can exchange labels within their kind{further} in {ways} "
                f"way{'' if ways == 1 else 's'}; p ≤ {1 - level:.3g} needs at least {fewest}"
            )
        perms = label_permutations(len(dyads.personas), permutations, seed, blocks, exact_up_to)
        return replace(perms, structure=f"labels exchangeable within {len(kinds)} kinds of personas{further}")
    raise UnanswerableError(unknown)


def dyad_cells(dyads: Dyads) -> Ints:
    """Return the number of each dyad's cell, shape (n,): its kind of source and kind of target, in this order."""
    kind = _numbered(dyads.categories)
    return _cells(kind[dyads.source], kind[dyads.target])


def pair_cells(categories: Sequence[str], first: Ints, second: Ints) -> Ints:
    """Return the number of each unordered pair's cell, shape (n,): its two kinds, in any order."""
    kind = _numbered(categories)
    return _cells(np.minimum(kind[first], kind[second]), np.maximum(kind[first], kind[second]))


def correlations_within(
    outcome: Floats,
    matrix: Floats,
    source: Ints,
    target: Ints,
    cell: Ints,
    perms: LabelPermutations,
    ranked: NDArray[np.bool_],
) -> Floats:
    """Return the rank correlation within cells of an outcome and X[π(source), π(target)], per relabelling.

    r = Σ y' x' / √(Σ y'² Σ x'²), with y' and x' the ranks less the mean rank of their cell. The outcome is ranked over
    the n observations, X over the entries `ranked`, so that relabelling moves ranks and does not change them.

    Args:
        outcome, source, target, cell: shape (n,), one per observation; cells numbered from 0.
        matrix: X, shape (K, K).
        perms: relabellings that keep every observation within its cell.
        ranked: shape (K, K): the entries of the matrix among which X is ranked, all that relabelling can reach.

    Returns:
        Shape (R,), the observed correlation first; NaN where X is constant within every cell.

    Raises:
        UnanswerableError: the outcome, or the observed X, is constant within every cell.
    """
    sizes = np.bincount(cell).astype(np.float64)
    member = np.zeros((len(cell), len(sizes)))
    member[np.arange(len(cell)), cell] = 1.0
    ranks = stats.rankdata(outcome)
    left = ranks - (np.bincount(cell, ranks) / sizes)[cell]
    _require_spread(left, ranks, "the outcome", len(sizes))
    scores = ranked_cells(matrix, ranked)
    observed = scores[source, target]
    _require_spread(observed - (np.bincount(cell, observed) / sizes)[cell], observed, "the predictor", len(sizes))
    # Σ y' x' = Σ y' x, because y' sums to 0 in every cell; Σ x'² = Σ x² − Σ over cells of (Σ x)² / size.
    centred = scores - np.nanmean(scores)
    samples = np.empty(len(perms.places))
    for rows, places in relabelled_cells(perms, source, target):
        x = np.take(centred, places)
        total = np.einsum("rn,rn->r", x, x)
        squares = total - ((x @ member) ** 2 / sizes).sum(axis=1)
        squares[squares <= _ROUNDING * total] = np.nan
        samples[rows] = x @ left / np.sqrt(squares * (left @ left))
    return np.asarray(np.clip(samples, -1.0, 1.0))


def within_kinds(dyads: Dyads, predictor: str, perms: LabelPermutations) -> Floats:
    """Return `correlations_within` ordered pairs of kinds, of leakage with a predictor, per relabelling.

    Returns:
        Shape (R,), the observed correlation first.

    Raises:
        UnanswerableError: as in `correlations_within`.
    """
    matrix, reachable = dyads.predictors[predictor], perms.reachable(dyads)
    return correlations_within(dyads.outcome, matrix, dyads.source, dyads.target, dyad_cells(dyads), perms, reachable)


def pairs_within_kinds(x: Floats, y: Floats, categories: Sequence[str], perms: LabelPermutations) -> Floats:
    """Return `correlations_within` unordered pairs of kinds, of two symmetric measures, per relabelling of x.

    Args:
        x, y: shape (K, K), symmetric; the diagonal is ignored.
        categories: the personas' kinds, K names.

    Returns:
        Shape (R,), the observed correlation first.

    Raises:
        UnanswerableError: a value is unknown, or as in `correlations_within`.
    """
    above, below = np.triu_indices(len(x), k=1)
    if unknown := int((np.isnan(x) | np.isnan(y))[above, below].sum()):
        raise UnanswerableError(f"{unknown} of {len(above)} pairs are unknown; relabelling needs all")
    # Mirrored, so that rounding does not rank a pair differently in its two orders.
    mirrored = np.triu(x, k=1) + np.triu(x, k=1).T
    off_diagonal = ~np.eye(len(x), dtype=bool)
    cells = pair_cells(categories, above, below)
    return correlations_within(y[above, below], mirrored, above, below, cells, perms, off_diagonal)


def require_distinct(samples: Floats, perms: LabelPermutations, level: float) -> None:
    """Require that enumerated relabellings give enough different results for p ≤ 1 − level.

    Raises:
        UnanswerableError: even the most extreme result would not be rejected.
    """
    sizes = np.abs(np.nan_to_num(samples)).round(12)
    smallest = float((sizes >= sizes.max()).mean())
    if perms.exact and smallest > 1 - level + 1e-12:
        raise UnanswerableError(
            f"the {perms.count} relabellings within kinds coincide by symmetry: the smallest possible p is "
            f"{smallest:.2g}, above {1 - level:.3g}"
        )


def inverted(samples: Floats, level: float, perms: LabelPermutations, fisher: bool = True) -> Interval:
    """Return the interval estimate ± q, with q the spread of the relabelled values, that excludes 0 exactly if p ≤ α.

    q is the largest |value| that the test would not reject, on Fisher's scale for a correlation. The interval assumes
    that the estimate varies around its true value as it varies around 0 under relabelling; simulations are in
    benchmarks/results/calibration.md.

    Args:
        samples: shape (R,), the observed value first; NaN counts as 0.
        fisher: transform by artanh; otherwise the limits are clipped to [−1, 1].
    """
    values = np.nan_to_num(samples)
    if fisher:
        values = np.arctanh(np.clip(values, -_PERFECT, _PERFECT))
    sizes = np.sort(np.abs(values))[::-1]
    # Values of this rank or above are too many for p ≤ α; ties up to rounding count as equal.
    allowed = min(math.floor((1 - level) * len(sizes) + 1e-9), len(sizes) - 1)
    half = float(sizes[allowed]) * (1 + 1e-9)
    limits = np.array([values[0] - half, values[0] + half])
    low, high = np.tanh(limits) if fisher else np.clip(limits, -1.0, 1.0)
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        method=f"inverted permutation test{', Fisher z' if fisher else ''}, {perms.count:,} permutations",
        structure=perms.structure,
        reference=REFERENCE,
        resamples=perms.count,
    )


def _numbered(categories: Sequence[str]) -> Ints:
    return np.asarray(np.unique(np.array(categories), return_inverse=True)[1], dtype=np.int64)


def _cells(first: Ints, second: Ints) -> Ints:
    """Number the distinct combinations of two numbers from 0."""
    return np.asarray(np.unique(np.stack([first, second]), axis=1, return_inverse=True)[1].ravel(), dtype=np.int64)


def _require_spread(left: Floats, values: Floats, name: str, cells: int) -> None:
    spread = float(((values - values.mean()) ** 2).sum())
    if float(left @ left) <= _ROUNDING * spread or spread == 0:
        raise UnanswerableError(f"{name} does not vary within any of the {cells} pairs of kinds")
