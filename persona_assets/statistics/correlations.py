"""Correlations with intervals and p-values that assume independent observations."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.statement import Interval, PValue, UnanswerableError

Floats = NDArray[np.float64]

AnyCoefficient = Literal["spearman", "pearson", "kendall"]
COEFFICIENTS: tuple[AnyCoefficient, ...] = ("spearman", "pearson", "kendall")

_TESTS = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}
_P_METHODS = {
    "spearman": ("t approximation, n − 2 degrees of freedom", "Kendall 1970, Rank Correlation Methods"),
    "pearson": ("t test, n − 2 degrees of freedom", "Student 1908, Biometrika 6, 302–310"),
    "kendall": ("τ-b, normal approximation", "Kendall 1938, Biometrika 30, 81–93"),
}
_INTERVAL_METHODS = {
    "spearman": ("Fisher z, Bonett–Wright standard error", "Bonett & Wright 2000, Psychometrika 65, 23–28"),
    "pearson": ("Fisher z", "Fisher 1921, Metron 1, 3–32"),
    "kendall": ("Fisher z, Fieller–Hartley–Pearson error", "Fieller, Hartley & Pearson 1957, Biometrika 44, 470–481"),
}
_FEWEST = 4  # Fisher's z has n − 3 degrees of freedom
_EXACT_KENDALL = 33  # the largest n for which SciPy uses the exact distribution of τ without ties
_PERFECT = 1 - 1e-12  # a larger |correlation| is 1 up to rounding
_COLLINEAR = 1e-5  # smallest singular value of standardised columns that count as independent


def correlation(x: Floats, y: Floats, coefficient: str) -> float:
    """Return the correlation of two variables, shape (n,) each, by one of `COEFFICIENTS`.

    Raises:
        UnanswerableError: fewer than 3 observations, a missing value, or a constant variable.
    """
    require_varying(x, "x")
    require_varying(y, "y")
    if len(x) < 3:
        raise UnanswerableError(f"there are {len(x)} observations; a correlation needs at least 3")
    return float(_TESTS[coefficient](x, y).statistic)


def iid_correlation(
    x: Floats,
    y: Floats,
    coefficient: str,
    level: float = 0.95,
    unit: str = "dyad",
    names: tuple[str, str] = ("x", "y"),
) -> tuple[float, Interval, PValue]:
    """Return a correlation with its interval and p, assuming independent observations.

    p is SciPy's. The interval is tanh(artanh r ± z·s) with s² = 1/(n − 3) for Pearson (Fisher 1921),
    (1 + r²/2)/(n − 3) for Spearman (Bonett & Wright 2000) and 0.437/(n − 4) for Kendall (Fieller et al. 1957).

    Args:
        x, y: shape (n,).
        coefficient: one of `COEFFICIENTS`.
        level: coverage, within (0, 1).
        unit: name of one observation, for messages.
        names: names of x and y in error messages.

    Raises:
        UnanswerableError: fewer than 4 observations (Kendall: 5), a missing value, or a constant variable.
    """
    n, fewest = len(x), _FEWEST + (coefficient == "kendall")
    if n < fewest:
        raise UnanswerableError(f"there are {n} {unit}s; an interval for {coefficient} needs at least {fewest}")
    require_varying(x, names[0], unit)
    require_varying(y, names[1], unit)
    test = _TESTS[coefficient](x, y)
    r, p = float(test.statistic), float(test.pvalue)
    method, reference = _P_METHODS[coefficient]
    smallest = 0.0
    if coefficient == "kendall" and n <= _EXACT_KENDALL and len(np.unique(x)) == len(np.unique(y)) == n:
        method, smallest = "τ-b, exact", 2 / math.factorial(n)
    return (
        r,
        fisher_interval(r, n, coefficient, level, unit),
        PValue(p=p, smallest=smallest, method=method, structure=_iid(unit), reference=reference, note=_zero_p(r, p)),
    )


def iid_partial(
    x: Floats,
    y: Floats,
    given: Floats,
    coefficient: str,
    level: float = 0.95,
    semi: bool = False,
    unit: str = "dyad",
    names: tuple[str, str] = ("x", "y"),
) -> tuple[float, Interval, PValue]:
    """Return the partial correlation of x and y given k variables, by pingouin: t test, n − 2 − k degrees of freedom.

    The interval is that of `iid_correlation` with n replaced by n − k (Fisher 1924).

    Args:
        x, y: shape (n,).
        given: shape (k, n), controlled for in both x and y.
        coefficient: spearman (on ranks) or pearson.
        level, unit, names: as in `iid_correlation`.
        semi: control for `given` in x only (semi-partial correlation).

    Raises:
        UnanswerableError: the coefficient is Kendall's, whose partial τ has no known distribution; there are fewer than
            k + 4 observations; a value is missing; or a variable is constant or collinear with the others.
    """
    if coefficient == "kendall":
        raise UnanswerableError("the distribution of a partial Kendall correlation is not known")
    import pingouin

    k, n = given.shape
    if n - k < _FEWEST:
        raise UnanswerableError(
            f"there are {n} {unit}s; a partial correlation given {k} variables needs at least {k + _FEWEST}"
        )
    others = [f"given {number}" for number in range(1, k + 1)]
    columns = np.vstack([x, y, given])
    for values, name in zip(columns, [*names, *others], strict=True):
        require_varying(values, name, unit)
    columns = standardised(stats.rankdata(columns, axis=1) if coefficient == "spearman" else columns)
    for chosen in ([*range(2, 2 + k)], [0, *range(2, 2 + k)], [1, *range(2, 2 + k)], [*range(2 + k)]):
        require_independent(columns[chosen], [[*names, *others][place] for place in chosen])
    table = pd.DataFrame(columns.T, columns=["x", "y", *others])
    removed = {"x_covar" if semi else "covar": others}
    row = pingouin.partial_corr(table, x="x", y="y", method=coefficient, **removed).iloc[0]
    r, p = float(row["r"]), float(row["p_val"])
    return (
        r,
        fisher_interval(r, n - k, coefficient, level, unit),
        PValue(
            p=p,
            smallest=0.0,
            method="t test, n − 2 − k degrees of freedom",
            structure=_iid(unit),
            reference="Fisher 1924, Metron 3, 329–332; Vallat 2018, JOSS 3, 1026",
            note=_zero_p(r, p),
        ),
    )


def fisher_interval(r: float, n: int, coefficient: str, level: float, unit: str = "dyad") -> Interval:
    """Return the interval of a correlation of n independent observations; [r, r] and a note if |r| is 1."""
    method, reference = _INTERVAL_METHODS[coefficient]
    low = high = r
    note = "the interval of a perfect correlation has no width on Fisher's scale"
    if abs(r) < _PERFECT:
        half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(_variance(r, coefficient) / (n - _lost(coefficient)))
        low, high, note = math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), ""
    return Interval(
        low=low, high=high, level=level, method=method, structure=_iid(unit), reference=reference, note=note
    )


def effective_n(r: float, interval: Interval, coefficient: str) -> float:
    """Return the number of independent observations whose `fisher_interval` is as wide, on Fisher's scale, as this one.

    NaN if the interval has no width, or if it or r reaches ±1.
    """
    if not -1 < interval.low < interval.high < 1 or abs(r) >= _PERFECT:
        return math.nan
    half = (math.atanh(interval.high) - math.atanh(interval.low)) / 2
    quantile = float(stats.norm.ppf((1 + interval.level) / 2))
    return _lost(coefficient) + _variance(r, coefficient) * (quantile / half) ** 2


def require_varying(values: Floats, name: str, unit: str = "observation") -> None:
    """Require that no value is missing and that values differ by more than rounding."""
    missing = int((~np.isfinite(values)).sum())
    if missing:
        raise UnanswerableError(f"{name} is missing in {missing} of {len(values)} {unit}s")
    if not len(values) or np.ptp(values) <= 1e-13 * np.abs(values).max():
        raise UnanswerableError(f"{name} is the same in every {unit}")


def standardised(columns: Floats) -> Floats:
    """Return each row of (k, n) with mean 0 and length 1; no row may be constant."""
    centred = columns - columns.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.linalg.norm(centred, axis=1, keepdims=True))


def require_independent(columns: Floats, names: Sequence[str]) -> None:
    """Require that no standardised row of (k, n) is a linear function of the others."""
    if len(columns) > 1 and np.linalg.svd(columns, compute_uv=False)[-1] <= _COLLINEAR:
        raise UnanswerableError(f"{', '.join(names)} are exactly collinear")


def _variance(r: float, coefficient: str) -> float:
    """Return the variance of Fisher's z times the degrees of freedom n − `_lost`."""
    return {"spearman": 1 + r**2 / 2, "pearson": 1.0, "kendall": 0.437}[coefficient]


def _lost(coefficient: str) -> int:
    return 4 if coefficient == "kendall" else 3


def _iid(unit: str) -> str:
    return f"every {unit} independent"


def _zero_p(r: float, p: float) -> str:
    perfect = p == 0 and abs(r) >= _PERFECT
    return "a t test gives a perfect correlation p = 0 for any number of observations" if perfect else ""
