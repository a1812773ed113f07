"""MRQAP: does a predictor of leakage hold its own beside the others, when personas' labels are permuted?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.labels import LabelPermutations
from persona_assets.statistics.permutation import ranked_cells, relabelled_cells, require_answerable, two_sided
from persona_assets.statistics.statement import PValue, UnanswerableError

Floats = NDArray[np.float64]

DSP = "Dekker, Krackhardt & Snijders 2007, Psychometrika 72, 563–581"


def mrqap(dyads: Dyads, predictors: Sequence[str], perms: LabelPermutations, ranks: bool) -> dict[str, PValue]:
    """p of each predictor in leakage ~ all predictors, by double semi-partialling, with |t| as the statistic.

    Args and errors as `permuted_t`.
    """
    samples = permuted_t(dyads, predictors, perms, ranks)
    method = f"MRQAP, double semi-partialling, |t| of {'ranks' if ranks else 'values'}"
    return {name: two_sided(samples[:, column], perms, method, DSP) for column, name in enumerate(predictors)}


def permuted_t(dyads: Dyads, predictors: Sequence[str], perms: LabelPermutations, ranks: bool) -> Floats:
    """t of each predictor, the part of it that the others do not explain being relabelled.

    Predictor x is regressed on the others z over all ordered pairs that a relabelling can bring to a dyad; its residual
    matrix e is relabelled, and leakage ~ e[π(source), π(target)] + z is fitted at the dyads (Dekker, Krackhardt &
    Snijders 2007). By Frisch and Waugh t follows from the correlation r of leakage and relabelled e, both freed of z:
    t = r √(dof / (1 − r²)), dof = n − predictors − 1. Unpermuted, this is t of x in leakage ~ x + z.

    Args:
        ranks: leakage is ranked over the n dyads, each predictor over all the ordered pairs above. Predictors are
            ranked there, not at the dyads, so that a relabelled residual is on one scale everywhere; t may then differ
            a little from that of the partial Spearman correlation at the dyads.

    Returns:
        Shape (R, m); row 0 is what was observed; NaN where a relabelled residual is determined by the others.

    Raises:
        UnanswerableError: as `require_answerable`; or no degree of freedom is left, predictors determine one another,
            or they determine leakage.
    """
    require_answerable(dyads, predictors, perms)
    if (dof := dyads.n - len(predictors) - 1) < 1:
        raise UnanswerableError(f"{dyads.n} dyads leave no degree of freedom beside {len(predictors)} predictors")
    cells = perms.reachable(dyads)
    matrices = [ranked_cells(dyads.predictors[name], cells) if ranks else dyads.predictors[name] for name in predictors]
    outcome = stats.rankdata(dyads.rate) if ranks else dyads.rate
    _require_independent(np.stack([matrix[dyads.source, dyads.target] for matrix in matrices]), predictors)
    partialled = []
    for place, matrix in enumerate(matrices):
        others = [other for number, other in enumerate(matrices) if number != place]
        basis = _basis([other[dyads.source, dyads.target] for other in others], dyads.n)
        partialled.append((_residual_matrix(matrix, others, cells), basis, _freed_of(outcome, basis)))
    correlations = np.empty((len(perms.places), len(predictors)))
    for rows, places in relabelled_cells(perms, dyads.source, dyads.target):
        for column, (residuals, basis, left) in enumerate(partialled):
            correlations[rows, column] = _partial_correlations(np.take(residuals, places), basis, left)
    if np.abs(correlations[0]).max() > 1.0 - 1e-12:
        raise UnanswerableError("the predictors determine leakage exactly, which leaves no error to compare with")
    with np.errstate(divide="ignore"):
        return np.asarray(correlations * np.sqrt(dof / (1.0 - correlations**2)))


def _require_independent(at_dyads: Floats, predictors: Sequence[str]) -> None:
    correlations = np.atleast_2d(np.corrcoef(at_dyads))
    if np.linalg.eigvalsh(correlations)[0] < 1e-10:
        raise UnanswerableError(f"{' + '.join(predictors)} determine one another at the {at_dyads.shape[1]} dyads")


def _basis(variables: list[Floats], n: int) -> Floats:
    """Orthonormal columns that span the intercept and the variables, shape (n, 1 + variables)."""
    centred = [variable - variable.mean() for variable in variables]
    return np.asarray(np.linalg.qr(np.column_stack([np.ones(n), *centred]))[0])


def _freed_of(variable: Floats, basis: Floats) -> Floats:
    return np.asarray(variable - basis @ (basis.T @ variable))


def _residual_matrix(matrix: Floats, others: list[Floats], cells: NDArray[np.bool_]) -> Floats:
    """What the others (and an intercept) leave of a matrix at `cells`; NaN elsewhere."""
    residuals = np.full(matrix.shape, np.nan)
    residuals[cells] = _freed_of(matrix[cells], _basis([other[cells] for other in others], int(cells.sum())))
    return residuals


def _partial_correlations(rows: Floats, basis: Floats, left: Floats) -> Floats:
    """Correlation of `left` (n,), already freed of the basis, with rows (r, n) freed of it."""
    total = np.einsum("rn,rn->r", rows, rows)
    squares = total - ((rows @ basis) ** 2).sum(axis=1)
    squares[squares <= 1e-12 * total] = np.nan
    return np.asarray(np.clip(rows @ left / np.sqrt(squares) / np.linalg.norm(left), -1.0, 1.0))
