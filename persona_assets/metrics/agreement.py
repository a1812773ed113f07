"""Agreement of the expected rate with the sampled rate, where a study has both."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

_COLUMNS = ("source", "target", "found", "total", "expected_rate", "expected_rate_low", "expected_rate_high")
_LARGEST_Z = 3.0
_SMALLEST_RATIO = 1.25  # a significant difference of the means matters if one is this many times the other
_SE = 3.92  # standard errors between the bounds of a normal 95 % interval


class RateAgreement(NamedTuple):
    """Comparison of expected and sampled rates over dyads.

    Attributes:
        dyads: number of dyads that have both rates.
        expected, sampled: mean rates over these dyads, weighted by their sampled replies; NaN without dyads.
        z: standardised difference sampled − expected over all dyads; NaN without dyads or without variance.
        outside: dyads whose number of marked replies is outside the interval around the expected number, as
            (source, target, found, total, expected rate).
        agrees: whether no dyad is outside, and the means do not differ.
    """

    dyads: int
    expected: float
    sampled: float
    z: float
    outside: tuple[tuple[str, str, int, int, float], ...]
    agrees: bool


def rate_agreement(leakage_table: pd.DataFrame, level: float = 0.95) -> RateAgreement:
    """Compare the sampled with the expected rate of every dyad that has both.

    They agree if the marker only appears where its log-probability is measured, at the end of a reply. A marker that
    appears elsewhere makes the sampled rate larger.

    Per dyad: the number of marked replies has to be within a binomial interval at both bounds of the expected rate. The
    interval has level 1 − (1 − level) / n for n dyads (Bonferroni), so that `level` of the studies without a difference
    have no dyad outside. Over all dyads: z of the difference of the sums. Its variance is binomial, plus the error of
    the expected rates, taken from their intervals; this error adds up over sources, because a target has the same
    replies for all of them. The means differ if |z| exceeds 3 and one is at least 1.25 times the other.

    Args:
        leakage_table: table from `build_leakage_table`; its expected rates have 95 % intervals.
        level: probability, within (0, 1), that no dyad is outside if there is no difference.

    Raises:
        ValueError: a column is missing.
    """
    if absent := [column for column in _COLUMNS if column not in leakage_table.columns]:
        raise ValueError(f"leakage_table lacks {absent}; expected the columns {list(_COLUMNS)}")
    both = leakage_table[leakage_table["total"].notna() & leakage_table["expected_rate"].notna()]
    if both.empty:
        return RateAgreement(0, math.nan, math.nan, math.nan, (), True)
    found, total, expected, low, high = (
        both[name].to_numpy(dtype=np.float64, na_value=np.nan) for name in _COLUMNS[2:]
    )
    tail = (1 - level) / 2 / len(both)
    least = stats.binom.ppf(tail, total, np.where(np.isnan(low), expected, low))
    most = stats.binom.ppf(1 - tail, total, np.where(np.isnan(high), expected, high))
    outside = (found < least) | (found > most)
    z = _z(found, total, expected, np.nan_to_num((high - low) / _SE), both["target"])
    means = float((total * expected).sum() / total.sum()), float(found.sum() / total.sum())
    differ = abs(z) > _LARGEST_Z and max(means) >= _SMALLEST_RATIO * min(means)
    rows = zip(both["source"], both["target"], found, total, expected, strict=True)
    named = tuple(
        (str(source), str(target), int(of), int(count), float(rate))
        for (source, target, of, count, rate), is_outside in zip(rows, outside, strict=True)
        if is_outside
    )
    return RateAgreement(len(both), *means, z, named, not named and not differ)


def _z(found: Floats, total: Floats, expected: Floats, error: Floats, targets: pd.Series) -> float:
    shared = pd.Series(total * error).groupby(targets.to_numpy()).sum()
    variance = float((total * expected * (1 - expected)).sum() + (shared**2).sum())
    difference = float((found - total * expected).sum())
    if variance > 0:
        return difference / math.sqrt(variance)
    return 0.0 if difference == 0 else math.copysign(math.inf, difference)
