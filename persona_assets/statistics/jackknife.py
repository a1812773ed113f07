"""Jackknife intervals from estimates that leave out one source, or one persona, at a time."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.statement import Interval, UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TUKEY = "Tukey 1958, Ann. Math. Stat. 29, 614"
FEWEST_LEFT_OUT = 3


def left_out_weights(*sides: Ints) -> Floats:
    """Return weights that leave out one unit at a time.

    Args:
        sides: shape (n,) each: an observation is left out with a unit that is on any of its sides. Pass the source for
            delete-one-source; source and target for delete-one-persona.

    Returns:
        Shape (units, n), 0 where the observation is left out and 1 elsewhere, units ascending.
    """
    units = np.unique(np.concatenate(sides))
    kept = np.all([side != units[:, None] for side in sides], axis=0)
    return np.asarray(kept.astype(np.float64))


def jackknife_interval(
    estimate: float,
    left_out: Floats,
    level: float,
    method: str,
    structure: str,
    transform: Literal["fisher", "none"] = "fisher",
    reference: str = TUKEY,
) -> Interval:
    """Return estimate ± t(S − 1) · √((S − 1) / S · Σ (θ_i − mean θ)²), θ_i without unit i, S units (Tukey 1958).

    Args:
        estimate: the estimate from all units.
        left_out: shape (S,), the estimate without each unit.
        method, structure, reference: stored in the interval.
        transform: `fisher` computes on artanh of a correlation and transforms back, so limits stay within [−1, 1].

    Raises:
        UnanswerableError: there are fewer than three units; the estimate is undefined, with all units or without one;
            or it is ±1, which has no Fisher transform.
    """
    units = len(left_out)
    if units < FEWEST_LEFT_OUT:
        raise UnanswerableError(f"there are {units} units to leave out; a jackknife needs at least {FEWEST_LEFT_OUT}")
    if not np.isfinite(estimate):
        raise UnanswerableError(f"the estimate is undefined with all {units} units")
    values = np.array([estimate, *left_out])
    if missing := int((~np.isfinite(values)).sum()):
        raise UnanswerableError(f"the estimate is undefined for {missing} of the {units} units left out in turn")
    if transform == "fisher":
        if np.abs(values).max() > 1.0 - 1e-12:
            raise UnanswerableError("a correlation is ±1 with all units or without one, so its error is unknown")
        values = np.arctanh(values)
    centre, replicates = values[0], values[1:]
    error = np.sqrt((units - 1) / units * ((replicates - replicates.mean()) ** 2).sum())
    half = stats.t.ppf((1.0 + level) / 2, units - 1) * error
    limits = np.array([centre - half, centre + half])
    low, high = np.tanh(limits) if transform == "fisher" else limits
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        method=method,
        structure=structure,
        reference=reference,
        resamples=units,
    )
