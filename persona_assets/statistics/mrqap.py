"""MRQAP: tests of a predictor of leakage given the others, by permuting personas' labels."""

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
    """Return p of each predictor in leakage ~ all predictors, by double semi-partialling with |t| as the statistic.

    Args and errors as in `permuted_t`.
    """
    samples = permuted_t(dyads, predictors, perms, ranks)
    method = f"MRQAP, double semi-partialling, |t| of {'ranks' if ranks else 'values'}"
    return {name: two_sided(samples[:, column], perms, method, DSP) for column, name in enumerate(predictors)}


def permuted_t(dyads: Dyads, predictors: Sequence[str], perms: LabelPermutations, ranks: bool) -> Floats:
    """Return t of each predictor after relabelling the part of it that the other predictors do not explain.

    Predictor x is regressed on the others z over all ordered pairs that a relabelling can map to a dyad. Its residual
    matrix e is relabelled, and leakage ~ e[π(source), π(target)] + z is fitted at the dyads (Dekker, Krackhardt &
    Snijders 2007). By the Frisch–Waugh theorem t follows from the correlation r of leakage and relabelled e, both with
    z partialled out: t = r √(dof / (1 − r²)), dof = n − predictors − 1. Unpermuted, this is t of x in leakage ~ x + z.

    Args:
        ranks: use ranks: leakage is ranked over the n dyads, each predictor over all the ordered pairs above. Ranking
            predictors over all pairs keeps relabelled residuals on one scale; t may therefore differ slightly from that
            of the partial Spearman correlation at the dyads.

    Returns:
        Shape (R, m); row 0 is the observed t; NaN where the other predictors determine a relabelled residual.

    Raises:
        UnanswerableError: as in `require_answerable`; or no degrees of freedom are left, predictors are collinear, or
            they determine leakage.
    """
    require_answerable(dyads, predictors, perms)
    if (dof := dyads.n - len(predictors) - 1) < 1:
        raise UnanswerableError(f"{dyads.n} dyads leave no degrees of freedom with {len(predictors)} predictors")
    cells = perms.reachable(dyads)
    matrices = [ranked_cells(dyads.predictors[name], cells) if ranks else dyads.predictors[name] for name in predictors]
    outcome = stats.rankdata(dyads.outcome) if ranks else dyads.outcome
    _require_independent(np.stack([matrix[dyads.source, dyads.target] for matrix in matrices]), predictors)
    partialled = []
    for place, matrix in enumerate(matrices):
        others = [other for number, other in enumerate(matrices) if number != place]
        basis = _basis([other[dyads.source, dyads.target] for other in others], dyads.n)
        partialled.append((_residual_matrix(matrix, others, cells), basis, _residualised(outcome, basis)))
    correlations = np.empty((len(perms.places), len(predictors)))
    for rows, places in relabelled_cells(perms, dyads.source, dyads.target):
        for column, (residuals, basis, left) in enumerate(partialled):
            correlations[rows, column] = _partial_correlations(np.take(residuals, places), basis, left)
    if np.abs(correlations[0]).max() > 1.0 - 1e-12:
        raise UnanswerableError("the predictors determine leakage exactly, so there is no residual variance")
    with np.errstate(divide="ignore"):
        return np.asarray(correlations * np.sqrt(dof / (1.0 - correlations**2)))


def _require_independent(at_dyads: Floats, predictors: Sequence[str]) -> None:
    correlations = np.atleast_2d(np.corrcoef(at_dyads))
    if np.linalg.eigvalsh(correlations)[0] < 1e-10:
        raise UnanswerableError(f"{' + '.join(predictors)} are collinear at the {at_dyads.shape[1]} dyads")


def _basis(variables: list[Floats], n: int) -> Floats:
    """Return orthonormal columns that span the intercept and the variables, shape (n, 1 + variables)."""
    centred = [variable - variable.mean() for variable in variables]
    return np.asarray(np.linalg.qr(np.column_stack([np.ones(n), *centred]))[0])


def _residualised(variable: Floats, basis: Floats) -> Floats:
    return np.asarray(variable - basis @ (basis.T @ variable))


def _residual_matrix(matrix: Floats, others: list[Floats], cells: NDArray[np.bool_]) -> Floats:
    """Return the residuals of a matrix at `cells` after regression on the others and an intercept; NaN elsewhere."""
    residuals = np.full(matrix.shape, np.nan)
    residuals[cells] = _residualised(matrix[cells], _basis([other[cells] for other in others], int(cells.sum())))
    return residuals


def _partial_correlations(rows: Floats, basis: Floats, left: Floats) -> Floats:
    """Return the correlations of `left` (n,), orthogonal to the basis, with rows (r, n) orthogonalised to it."""
    total = np.einsum("rn,rn->r", rows, rows)
    squares = total - ((rows @ basis) ** 2).sum(axis=1)
    squares[squares <= 1e-12 * total] = np.nan
    return np.asarray(np.clip(rows @ left / np.sqrt(squares) / np.linalg.norm(left), -1.0, 1.0))
