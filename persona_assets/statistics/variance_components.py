"""Variance components of the marker's log-probability: what a measured value owes to source, target, seed and reply.

The mixed model has crossed random effects,

    y = μ + source + target + source × target + seed (in source) + seed × target + question + reply (of a target to a
    question) + residual,

all independent with variances σ²_k. Henderson's first method equates the uncorrected sums of squares T_k = Σ_g (Σ y)² /
n_g over the levels g of every effect with their expectations under the model, which are linear in μ² and the variances:

    E T_j = N μ² + Σ_k σ²_k Σ_g Σ_h n²_gh / n_g + q_j σ²_residual,

n_gh observations that are in level g of effect j and h of effect k, q_j levels (Henderson 1953, Biometrics 9, 226–252;
Searle, Casella & McCulloch 1992, Variance Components, section 5.3). It needs neither normal effects nor balanced data,
is unbiased, takes one pass over the replies, and on balanced data equals the analysis of variance (and REML, if no
component is estimated below 0).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HENDERSON = "Henderson 1953, Biometrics 9, 226–252; Searle, Casella & McCulloch 1992, Variance Components, section 5.3"
RESIDUAL = "residual"
# Effect → the columns whose combinations are its levels.
EFFECTS: Mapping[str, Sequence[str]] = {
    "source": ("source",),
    "target": ("target",),
    "source × target": ("source", "target"),
    "seed": ("source", "seed"),
    "seed × target": ("source", "seed", "target"),
    "question": ("question",),
    "reply": ("target", "question", "reply"),
}
_SINGULAR = 1e-10


@dataclass(frozen=True, eq=False)
class VarianceComponents:
    """Variances of the effects, in squared units of the outcome.

    Attributes:
        variance: effect → its variance, in the order of `EFFECTS`, then the residual; never below 0.
        levels: effect → its number of levels; the residual's are the observations.
        below_zero: effects whose estimate was below 0 and is reported as 0.
        confounded: effect → the effect that has the same levels in these data and includes its variance.
    """

    variance: Mapping[str, float]
    levels: Mapping[str, int]
    below_zero: tuple[str, ...]
    confounded: Mapping[str, str]

    @property
    def total(self) -> float:
        """Return the sum of the variances."""
        return sum(self.variance.values())


def variance_components(table: pd.DataFrame, effects: Mapping[str, Sequence[str]] = EFFECTS) -> VarianceComponents:
    """Estimate the variance of every effect by Henderson's first method.

    Args:
        table: one row per reply: the columns of the effects and `value`, finite.
        effects: effect → columns whose combinations are its levels.

    Raises:
        UnanswerableError: there are fewer than three sources or targets, values are constant, or the design does not
            tell the effects apart.
    """
    for side in ("source", "target"):
        if side in table and (count := table[side].nunique()) < 3:
            raise UnanswerableError(f"there are {count} {side}s; variance components need at least 3")
    y = table["value"].to_numpy(dtype=np.float64)
    if len(y) < 2 or np.ptp(y) == 0:
        raise UnanswerableError("the outcome is the same in every reply")
    y = y - y.mean()
    places, confounded = _distinct(table, effects)
    totals, expected = _equations(y, places)
    scale = np.abs(expected).max(axis=0)
    if np.linalg.svd(expected / scale, compute_uv=False)[-1] < _SINGULAR * len(y):
        raise UnanswerableError(f"the design does not tell {', '.join(places)} apart")
    *estimates, _ = np.linalg.solve(expected / scale, totals) / scale
    names = [*places, RESIDUAL]
    found = dict(zip(names, map(float, estimates), strict=True))
    return VarianceComponents(
        variance={name: max(0.0, value) for name, value in found.items()},
        levels={name: int(place.max()) + 1 for name, place in places.items()} | {RESIDUAL: len(y)},
        below_zero=tuple(name for name, value in found.items() if value < 0),
        confounded=confounded,
    )


def _distinct(table: pd.DataFrame, effects: Mapping[str, Sequence[str]]) -> tuple[dict[str, Ints], dict[str, str]]:
    """Return the level of every observation in each effect, and the effects with the same levels as an earlier one."""
    places: dict[str, Ints] = {}
    confounded: dict[str, str] = {}
    for name, columns in effects.items():
        place = np.asarray(table.groupby(list(columns), sort=False, observed=True).ngroup(), dtype=np.int64)
        levels = int(place.max()) + 1
        if levels == 1:
            continue  # a single question, for example, has no variance to estimate
        same = (other for other, at in places.items() if int(at.max()) + 1 == levels and _same(at, place, levels))
        if levels == len(place):
            confounded[name] = RESIDUAL
        elif (other := next(same, None)) is not None:
            confounded[name] = other
        else:
            places[name] = place
    return places, confounded


def _same(first: Ints, second: Ints, levels: int) -> bool:
    return len(np.unique(first * levels + second)) == levels


def _equations(y: Floats, places: Mapping[str, Ints]) -> tuple[Floats, Floats]:
    """Return the sums of squares, shape (k + 2,), and their expectations' coefficients of (σ²_k…, σ²_residual, μ²)."""
    n = len(y)
    everything, each = np.zeros(n, dtype=np.int64), np.arange(n)
    rows = [*places.values(), each, everything]
    totals = np.array([np.sum(np.bincount(at, y) ** 2 / np.bincount(at)) for at in rows])
    expected = np.array([[_overlap(at, of) for of in (*places.values(), each, everything)] for at in rows])
    return totals, expected


def _overlap(groups: Ints, levels: Ints) -> float:
    """Return Σ_g Σ_h n²_gh / n_g."""
    size = int(levels.max()) + 1
    cell, both = np.unique(groups * size + levels, return_counts=True)
    return float(np.sum(both.astype(np.float64) ** 2 / np.bincount(groups)[cell // size]))
