"""Comparison of two predictors: the difference of two dependent correlations with the same outcome.

The outcome is variable 1, the predictors are 2 and 3: r12 and r13 are compared, r23 is the correlation between the
predictors. The tests compare signed correlations; `aligned` flips signs so that they compare absolute values.
"""

import math

from scipy import stats

from persona_assets.statistics.correlations import fisher_interval
from persona_assets.statistics.statement import Interval, PValue, UnanswerableError

_ROUNDING = 1e-12


def aligned(r12: float, r13: float, r23: float) -> tuple[float, float, float]:
    """Return the three correlations after flipping the sign of predictors so that r12, r13 ≥ 0."""
    sign = math.copysign(1.0, r12) * math.copysign(1.0, r13)
    return abs(r12), abs(r13), sign * r23


def williams(r12: float, r13: float, r23: float, n: int, unit: str = "dyad") -> PValue:
    """Run Williams' test that two overlapping correlations are equal.

    t = (r12 − r13) √[(n − 1)(1 + r23) / (2 (n − 1)/(n − 3) · |R| + r̄² (1 − r23)³)] with n − 3 degrees of freedom,
    |R| = 1 − r12² − r13² − r23² + 2 r12 r13 r23 and r̄ = (r12 + r13)/2 (Williams 1959; Steiger 1980, eq. 7).

    Raises:
        UnanswerableError: n < 4, or the three cannot be correlations of three distinct variables.
    """
    determinant = _require_distinct(r12, r13, r23, n)
    mean = (r12 + r13) / 2
    spread = 2 * (n - 1) / (n - 3) * determinant + mean**2 * (1 - r23) ** 3
    t = (r12 - r13) * math.sqrt((n - 1) * (1 + r23) / spread)
    return PValue(
        p=float(2 * stats.t.sf(abs(t), n - 3)),
        smallest=0.0,
        method=f"Williams' t({n - 3}) = {t:.3f}",
        structure=f"every {unit} independent",
        reference="Williams 1959, J. R. Stat. Soc. B 21, 396–399; Steiger 1980, Psychol. Bull. 87, 245–251",
    )


def steiger(r12: float, r13: float, r23: float, n: int, unit: str = "dyad") -> PValue:
    """Run Steiger's test that two overlapping correlations are equal.

    Z = (artanh r12 − artanh r13) √(n − 3) / √(2 − 2s). s is the correlation of r12 and r13, computed with both replaced
    by their mean r̄, because they are equal under the null hypothesis (Steiger 1980, eq. 14).

    Raises:
        UnanswerableError: n < 4, or the three cannot be correlations of three distinct variables.
    """
    _require_distinct(r12, r13, r23, n)
    mean = (r12 + r13) / 2
    shared = _correlation_of_correlations(mean, mean, r23)
    z = (math.atanh(r12) - math.atanh(r13)) * math.sqrt((n - 3) / (2 - 2 * shared))
    return PValue(
        p=float(2 * stats.norm.sf(abs(z))),
        smallest=0.0,
        method=f"Steiger's Z = {z:.3f}, pooled correlation",
        structure=f"every {unit} independent",
        reference="Steiger 1980, Psychol. Bull. 87, 245–251",
    )


def zou(
    r12: float, r13: float, r23: float, n: int, level: float, coefficient: str = "pearson", unit: str = "dyad"
) -> Interval:
    """Return Zou's interval for r12 − r13, computed from the interval of each, (l2, u2) and (l3, u3).

    low = r12 − r13 − √[(r12 − l2)² + (u3 − r13)² − 2c (r12 − l2)(u3 − r13)]
    high = r12 − r13 + √[(u2 − r12)² + (r13 − l3)² − 2c (u2 − r12)(r13 − l3)]
    with c the correlation of r12 and r13 (Zou 2007).

    Args:
        coefficient: kind of the three correlations; determines the interval of each, as in
            `correlations.fisher_interval`.

    Raises:
        UnanswerableError: n < 4, or the three cannot be correlations of three distinct variables.
    """
    _require_distinct(r12, r13, r23, n)
    first, second = (fisher_interval(r, n, coefficient, level, unit) for r in (r12, r13))
    shared = _correlation_of_correlations(r12, r13, r23)
    down = _third_side(r12 - first.low, second.high - r13, shared)
    up = _third_side(first.high - r12, r13 - second.low, shared)
    return Interval(
        low=r12 - r13 - down,
        high=r12 - r13 + up,
        level=level,
        method=f"Zou's interval from {first.method}",
        structure=f"every {unit} independent",
        reference="Zou 2007, Psychol. Methods 12, 399–413",
    )


def _correlation_of_correlations(r12: float, r13: float, r23: float) -> float:
    """Return the asymptotic correlation of r12 and r13 (Steiger 1980: Pearson & Filon's covariance, standardised)."""
    left = 1 - r12**2 - r13**2
    covariance = r23 * left - r12 * r13 * (left - r23**2) / 2
    return covariance / ((1 - r12**2) * (1 - r13**2))


def _third_side(a: float, b: float, cosine: float) -> float:
    return math.sqrt(max(0.0, a**2 + b**2 - 2 * cosine * a * b))


def _require_distinct(r12: float, r13: float, r23: float, n: int) -> float:
    """Return the determinant of the three variables' correlation matrix, which must be positive definite."""
    if n < 4:
        raise UnanswerableError(f"there are {n} observations; comparing two correlations needs at least 4")
    determinant = 1 - r12**2 - r13**2 - r23**2 + 2 * r12 * r13 * r23
    if not (max(map(abs, (r12, r13, r23))) < 1 and determinant > _ROUNDING):
        raise UnanswerableError(
            f"correlations of {r12:.4g}, {r13:.4g} and {r23:.4g} cannot be compared: "
            "one variable is determined by the others, or the three correlations are inconsistent"
        )
    return determinant
