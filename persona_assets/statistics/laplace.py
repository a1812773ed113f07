"""Maximum likelihood for counts with crossed normal effects of source, target and dyad.

    found_d ~ Binomial(total_d, p_d),   logit p_d = x_d β + σ_s a_source(d) + σ_t b_target(d) + σ_e c_d,

a, b, c independent standard normal. The integral over them is approximated by Laplace's method: with z the modes of all
effects, A the design matrix of the effects times their σ, W = diag(total p (1 − p)) at the modes and H = I + AᵀWA,

    log L ≈ log Binomial(found | modes) − ½ zᵀz − ½ log det H,

which is lme4's glmer(nAGQ = 1) (Bates, Mächler, Bolker & Walker 2015, J. Stat. Softw. 67(1); Breslow & Clayton 1993,
JASA 88, 9–25). The dyad block of H is diagonal, D = 1 + σ_e² W: eliminating it leaves a dense matrix with one row per
source and target, with W / D in place of W. Every step costs O(n) and one Cholesky factorisation of that matrix.

Sums over dyads are written as sums instead of dot products, because NumPy's BLAS threads would compete with SciPy's for
the cores: with 12,210 dyads that takes ten times as long.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import expit, gammaln

from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_SIGMA = 1e-3  # on the logit scale: a smaller σ is 0 up to rounding
LARGEST_SIGMA = 25.0  # upper bound: a larger σ makes probabilities 0 or 1
_STEP = 1e-4  # step of β and σ in the finite differences for the Hessian
_RESTART_SIGMA = 0.01  # restart value for a σ estimated as 0


@dataclass(frozen=True, eq=False)
class Maximum:
    """Maximum of the likelihood.

    Attributes:
        slopes: shape (k,), β.
        sigmas: shape (3,), σ of source, target and dyad, within [0, LARGEST_SIGMA].
        log_likelihood: includes the binomial coefficients, as in R.
    """

    slopes: Floats
    sigmas: Floats
    log_likelihood: float


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Uncertainty of the coefficients at a maximum.

    Attributes:
        covariance: shape (k, k), covariance of β from the Hessian over β and σ together, as in glmer.
        gain: log likelihood that one more Newton step would add; far below 1 if the optimiser has converged.
        sigmas_known: whether the Hessian is over β only, treating σ as known.
    """

    covariance: Floats
    gain: float
    sigmas_known: bool


@dataclass(frozen=True, eq=False)
class _Curvature:
    """H at the modes, with the quantities that it is built from."""

    share: Floats  # p
    weight: Floats  # diagonal of W
    dyad: Floats  # diagonal of D
    crossed: tuple[Floats, bool]  # Cholesky factor of the reduced matrix of sources and targets


class CrossedCounts:
    """Likelihood of n counts; keeps the last modes as the starting point of the next search.

    Args:
        found, total: shape (n,).
        design: shape (n, k), including a column of ones.
        source, target: shape (n,), any labels.
    """

    def __init__(self, found: Floats, total: Floats, design: Floats, source: Ints, target: Ints) -> None:
        self.found, self.total, self.design = found, total, design
        self.source, self.target = (np.unique(side, return_inverse=True)[1] for side in (source, target))
        self.sources, self.targets = int(self.source.max()) + 1, int(self.target.max()) + 1
        self.crossed = self.sources + self.targets
        self.constant = float(np.sum(gammaln(total + 1) - gammaln(found + 1) - gammaln(total - found + 1)))
        self.modes = np.zeros(self.crossed + len(found))

    def maximise(self, slopes: Floats, sigmas: Floats) -> Maximum:
        """Maximise the likelihood from a start for β, shape (k,), and the three σ, shape (3,).

        The likelihood is even in σ, so 0 is a stationary point even if it is not a maximum. If a σ is estimated as 0,
        the search is restarted from a small positive value.
        """
        parameters, value = self._descend(np.concatenate([slopes, sigmas]))
        for place in len(slopes) + np.flatnonzero(parameters[len(slopes) :] < _RESTART_SIGMA):
            beside = parameters.copy()
            beside[place] = _RESTART_SIGMA
            if self.objective(beside)[1][place] < 0:
                parameters, value = self._descend(beside)
        return Maximum(parameters[: len(slopes)], parameters[len(slopes) :], -value)

    def _descend(self, start: Floats) -> tuple[Floats, float]:
        bounds = [(None, None)] * (len(start) - 3) + [(0.0, LARGEST_SIGMA)] * 3
        options = {"maxiter": 500, "ftol": 1e-12, "gtol": 1e-6}
        found = minimize(self.objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
        return np.asarray(found.x), float(found.fun)

    def objective(self, parameters: Floats) -> tuple[float, Floats]:
        """Return −log L at (β, σ_s, σ_t, σ_e), shape (k + 3,), and its gradient."""
        slopes, sigmas = parameters[:-3], parameters[-3:]
        fixed = (self.design * slopes).sum(axis=1)
        at = self._find_modes(fixed, sigmas)
        factor = at.crossed[0]
        log_det = np.log(at.dyad).sum() + 2 * np.log(np.diag(factor)).sum()
        value = self._penalised(self.modes, fixed, sigmas) + 0.5 * log_det - self.constant
        return float(value), self._gradient(sigmas, at)

    def uncertainty(self, at: Maximum) -> Uncertainty:
        """Compute the uncertainty from the curvature at the maximum, by central differences of the gradient.

        A σ of 0 is treated as known, and so are all σ if the curvature over β and σ is not positive.

        Raises:
            UnanswerableError: the likelihood is flat in a direction of β.
        """
        parameters = np.concatenate([at.slopes, at.sigmas])
        k = len(at.slopes)
        free = np.concatenate([np.arange(k), k + np.flatnonzero(at.sigmas > NO_SIGMA)])
        steps = _STEP * np.eye(len(parameters))[free]
        ahead, behind = (
            np.array([self.objective(parameters + step)[1][free] for step in towards]) for towards in (steps, -steps)
        )
        hessian = (ahead - behind + (ahead - behind).T) / (4 * _STEP)
        sigmas_known = bool(np.linalg.eigvalsh(hessian)[0] <= 0)
        if sigmas_known:
            hessian = hessian[:k, :k]
            if np.linalg.eigvalsh(hessian)[0] <= 0:
                raise UnanswerableError("the likelihood is flat at its maximum, so slopes have no standard error")
        covariance = np.linalg.inv(hessian)
        downhill = self.objective(parameters)[1][free][: len(hessian)]
        gain = 0.5 * float(downhill @ covariance @ downhill)
        return Uncertainty(covariance[:k, :k], gain, sigmas_known)

    def _spread(self, effects: Floats, sigmas: Floats) -> Floats:
        """Return what all effects, shape (sources + targets + n,), add to the logit of every dyad."""
        of_source, of_target, of_dyad = np.split(effects, [self.sources, self.crossed])
        return np.asarray(sigmas[0] * of_source[self.source] + sigmas[1] * of_target[self.target] + sigmas[2] * of_dyad)

    def _gather(self, of_dyads: Floats, sigmas: Floats) -> Floats:
        """Sum over the dyads of every source and every target: the transpose of `_spread` without the dyad effects."""
        of_source = np.bincount(self.source, of_dyads, self.sources)
        return np.concatenate([sigmas[0] * of_source, sigmas[1] * np.bincount(self.target, of_dyads, self.targets)])

    def _penalised(self, modes: Floats, fixed: Floats, sigmas: Floats) -> float:
        logit = fixed + self._spread(modes, sigmas)
        return float((self.total * np.logaddexp(0.0, logit) - self.found * logit).sum() + 0.5 * (modes**2).sum())

    def _find_modes(self, fixed: Floats, sigmas: Floats) -> _Curvature:
        """Find the modes by Newton's method with step halving, and store them in `self.modes`."""
        value = self._penalised(self.modes, fixed, sigmas)
        for _ in range(100):
            at = self._curvature(fixed, sigmas)
            residual = self.found - self.total * at.share
            downhill = np.concatenate([self._gather(residual, sigmas), sigmas[2] * residual]) - self.modes
            step = self._solve(downhill, sigmas, at)
            # Convergence is quadratic, so one more step from here reaches rounding error.
            if float((downhill * step).sum()) < 1e-8:
                self.modes = self.modes + step
                return self._curvature(fixed, sigmas)
            while (tried := self._penalised(self.modes + step, fixed, sigmas)) > value:
                step = step / 2
            self.modes, value = self.modes + step, tried
        return at

    def _curvature(self, fixed: Floats, sigmas: Floats) -> _Curvature:
        share = expit(fixed + self._spread(self.modes, sigmas))
        weight = self.total * share * (1 - share)
        dyad = 1 + sigmas[2] ** 2 * weight
        left = weight / dyad
        crossed = np.eye(self.crossed)
        of_source, of_target = np.split(np.diag_indices(self.crossed)[0], [self.sources])
        crossed[of_source, of_source] += sigmas[0] ** 2 * np.bincount(self.source, left, self.sources)
        crossed[of_target, of_target] += sigmas[1] ** 2 * np.bincount(self.target, left, self.targets)
        both = np.bincount(self.source * self.targets + self.target, left, self.sources * self.targets)
        # The Cholesky factorisation reads only the lower triangle.
        crossed[self.sources :, : self.sources] = sigmas[0] * sigmas[1] * both.reshape(self.sources, self.targets).T
        return _Curvature(share, weight, dyad, cho_factor(crossed, lower=True))

    def _solve(self, right: Floats, sigmas: Floats, at: _Curvature) -> Floats:
        """Return H⁻¹ right, after eliminating the dyads."""
        of_crossed, of_dyad = np.split(right, [self.crossed])
        effects = np.zeros(len(right))
        reduced = of_crossed - self._gather(sigmas[2] * at.weight * of_dyad / at.dyad, sigmas)
        effects[: self.crossed] = cho_solve(at.crossed, reduced)
        effects[self.crossed :] = (of_dyad - sigmas[2] * at.weight * self._spread(effects, sigmas)) / at.dyad
        return effects

    def _gradient(self, sigmas: Floats, at: _Curvature) -> Floats:
        """Return the gradient of −log L, including how the modes and H change with the parameters (one more solve)."""
        inverse = cho_solve(at.crossed, np.eye(self.crossed))
        of_target = self.sources + self.target
        source, target = inverse[self.source, self.source], inverse[of_target, of_target]
        between = inverse[self.source, of_target]
        crossed = sigmas[0] ** 2 * source + 2 * sigmas[0] * sigmas[1] * between + sigmas[1] ** 2 * target
        leverage = crossed / at.dyad**2 + sigmas[2] ** 2 / at.dyad
        of_log_det = 0.5 * at.weight * (1 - 2 * at.share) * leverage
        moved = self._solve(np.concatenate([self._gather(of_log_det, sigmas), sigmas[2] * of_log_det]), sigmas, at)
        residual = self.found - self.total * at.share
        of_logit = of_log_det - residual - at.weight * self._spread(moved, sigmas)
        left = at.weight / at.dyad
        of_factor = (
            (left * (sigmas[0] * source + sigmas[1] * between)).sum(),
            (left * (sigmas[1] * target + sigmas[0] * between)).sum(),
            sigmas[2] * (left * (1 - left * crossed)).sum(),
        )
        of_sigma = [
            (of_logit * self._spread(self.modes, unit) + residual * self._spread(moved, unit)).sum() + direct
            for unit, direct in zip(np.eye(3), of_factor, strict=True)
        ]
        return np.concatenate([(self.design * of_logit[:, None]).sum(axis=0), of_sigma])
