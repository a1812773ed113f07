"""Joint label permutation of personas: the quadratic assignment procedure (QAP).

Under the null hypothesis that a predictor is unrelated to leakage, the personas' labels in its matrix are exchangeable.
Rows and columns are therefore relabelled together, X[π(source), π(target)], which preserves the dependence between
dyads of one persona (Hubert & Schultz 1976; Krackhardt 1988).
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.chunks import chunks
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.labels import LabelPermutations, unknown_cells
from persona_assets.statistics.statement import PValue, UnanswerableError
from persona_assets.statistics.weighted import FEWEST, Coefficient, weighted_ranks

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

QAP = "Hubert & Schultz 1976, Br. J. Math. Stat. Psychol. 29, 190–241; Krackhardt 1988, Social Networks 10, 359–381"
_TIE = 1e-12  # statistics closer than this are equal up to rounding
_ROUNDING = 1e-24  # a sum of squares below this fraction of the uncentred one is zero up to rounding


def require_answerable(dyads: Dyads, predictors: Sequence[str], perms: LabelPermutations) -> None:
    """Check that a permutation test is possible.

    Raises:
        UnanswerableError: there are fewer than 4 dyads, leakage or a predictor is constant, or relabelling needs an
            unknown value.
    """
    if dyads.n < FEWEST:
        raise UnanswerableError(f"there are {dyads.n} dyads; a correlation needs at least {FEWEST}")
    if unknown := unknown_cells(dyads, predictors, perms):
        raise UnanswerableError(unknown)
    for name, values in [("leakage", dyads.outcome), *((name, dyads.at(name)) for name in predictors)]:
        if np.ptp(values) == 0:
            raise UnanswerableError(f"{name} is {values[0]:g} in all {dyads.n} dyads")


def relabelled_cells(perms: LabelPermutations, source: Ints, target: Ints) -> Iterator[tuple[slice, Ints]]:
    """Yield, in chunks, rows of perms and the cells (rows, n) of a flattened (K, K) matrix that the pairs map to."""
    personas = perms.places.shape[1]
    for rows in chunks(len(perms.places), personas**2):
        places = perms.places[rows]
        cells = np.take(places * personas, source, axis=1)
        cells += np.take(places, target, axis=1)
        yield rows, cells


def correlate_rows(rows: Floats, fixed: Floats) -> Floats:
    """Return the Pearson correlation of every row with a fixed variable.

    Args:
        rows: shape (r, n).
        fixed: shape (n,), not constant.

    Returns:
        Shape (r,); NaN for constant rows.
    """
    centred = fixed - fixed.mean()
    unit = centred / np.linalg.norm(centred)
    means = rows.mean(axis=1)
    deviations = rows - means[:, None]
    squares = np.einsum("rn,rn->r", deviations, deviations)
    squares[squares <= _ROUNDING * (squares + means**2 * rows.shape[1])] = np.nan
    return np.asarray(np.clip(deviations @ unit / np.sqrt(squares), -1.0, 1.0))


def ranked_cells(matrix: Floats, cells: NDArray[np.bool_]) -> Floats:
    """Return a (K, K) matrix with values replaced by their ranks among `cells`; NaN elsewhere."""
    ranks = np.full(matrix.shape, np.nan)
    ranks[cells] = stats.rankdata(matrix[cells])
    return ranks


def _ranks_among(matrix: Floats, cells: Ints) -> Floats:
    """Return the ranks of a flattened matrix's values at each row of cells, (r, n), within that row.

    Counting over one sort of the matrix is seven times as fast as sorting every row with 12,000 cells.
    """
    chosen = np.zeros((len(cells), matrix.size))
    np.put_along_axis(chosen, cells, 1.0, axis=1)
    # Unknown cells are never chosen.
    return np.asarray(np.take_along_axis(weighted_ranks(np.nan_to_num(matrix.ravel()), chosen), cells, axis=1))


def permuted_correlations(
    dyads: Dyads, predictors: Sequence[str], coefficient: Coefficient, perms: LabelPermutations
) -> Floats:
    """Return the correlation of leakage with each predictor X[π(source), π(target)] at the dyads, per permutation.

    Returns:
        Shape (R, m); row 0 is observed; NaN where a relabelled predictor is constant at the dyads.

    Raises:
        UnanswerableError: as in `require_answerable`.
    """
    require_answerable(dyads, predictors, perms)
    reachable = perms.reachable(dyads)
    ranks = coefficient == "spearman"
    # If every reachable pair is measured, relabelling only reorders the same values, so they are ranked once.
    rank_once = ranks and dyads.n == int(reachable.sum())
    matrices = [dyads.predictors[name] for name in predictors]
    if rank_once:
        matrices = [ranked_cells(matrix, reachable) for matrix in matrices]
    outcome = stats.rankdata(dyads.outcome) if ranks else dyads.outcome
    correlations = np.empty((len(perms.places), len(predictors)))
    for rows, cells in relabelled_cells(perms, dyads.source, dyads.target):
        for column, matrix in enumerate(matrices):
            values = _ranks_among(matrix, cells) if ranks and not rank_once else np.take(matrix, cells)
            correlations[rows, column] = correlate_rows(values, outcome)
    return correlations


def two_sided(samples: Floats, perms: LabelPermutations, method: str = "QAP", reference: str = QAP) -> PValue:
    """Return p as the fraction of permutations whose |statistic| is at least the observed one.

    The permutations include the identity, so p = hits / R is exact for an enumeration, and (1 + hits) / (1 + R) is
    valid for R random permutations (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39). The reported smallest p
    is 1 / rows; an enumeration cannot reach it if relabellings coincide by symmetry.

    Args:
        samples: shape (rows of perms.places,), the observed statistic first; NaN (a constant variable) counts as not
            extreme, and the note gives the number of NaN.

    Raises:
        UnanswerableError: the observed statistic is undefined.
    """
    if math.isnan(samples[0]):
        raise UnanswerableError("the statistic is undefined for the observed labels")
    least = np.abs(samples[0]) - _TIE * max(1.0, abs(samples[0]))
    undefined = int(np.isnan(samples).sum())
    notes = [
        "smallest p is 1 / permutations; relabellings that coincide by symmetry make it larger" if perms.exact else "",
        f"{undefined:,} of {len(samples):,} relabellings make a variable constant and count as 0" if undefined else "",
    ]
    return PValue(
        p=float((np.abs(samples) >= least).mean()),
        smallest=1.0 / len(samples),
        method=f"{method}, {'all' if perms.exact else 'random'} {perms.count:,} permutations",
        structure=perms.structure,
        reference=reference,
        resamples=perms.count,
        note="; ".join(note for note in notes if note),
    )


def shares(samples: Floats) -> Floats:
    """Return each statistic's own p: the fraction of permutations with one at least as large, per look.

    Shape (R, m) as in `largest_of`; NaN counts as not extreme. `largest_of(1 − shares)` is the single-step minP
    adjustment, which gives every look the same weight.
    """
    sizes = np.abs(np.where(np.isnan(samples), 0.0, samples))
    return np.asarray((len(sizes) + 1 - stats.rankdata(sizes.round(12), method="min", axis=0)) / len(sizes))


def largest_of(samples: Floats) -> Floats:
    """Return p adjusted for m looks: the fraction of permutations whose maximum over all looks reaches this look's.

    This is single-step maxT (Westfall & Young 1993, Resampling-Based Multiple Testing, section 2.3). It controls the
    family-wise error, but a look whose statistic varies widely under permutation reduces the power of the others.

    Args:
        samples: shape (R, m), observed statistics in row 0, all looks under the same permutations.

    Returns:
        Shape (m,); NaN for a look whose observed statistic is undefined.
    """
    largest = np.abs(np.where(np.isnan(samples), 0.0, samples)).max(axis=1)
    observed = np.abs(samples[0])
    adjusted = (largest[:, None] >= observed - _TIE).mean(axis=0)
    return np.asarray(np.where(np.isnan(observed), np.nan, adjusted))
