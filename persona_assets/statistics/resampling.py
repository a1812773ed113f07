"""Cluster bootstrap over sources (and targets), because dyads of one source are not independent."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.statement import Interval, UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weights = NDArray[np.float32]  # integers, exact in float32, which halves the memory for 12,210 dyads

FEWEST_CLUSTERS = 3


def source_weights(source: Ints, resamples: int, seed: int, exact_up_to: int = 5000) -> tuple[Weights, bool]:
    """Return cluster bootstrap weights over sources: S sources are drawn with replacement, each with all its dyads.

    If S^S <= exact_up_to, all ordered resamples are enumerated (5 sources: 3,125), so the result does not depend on the
    seed; otherwise `resamples` are drawn (Davison & Hinkley 1997, Bootstrap Methods, section 3.8; Field & Welsh 2007,
    J. R. Stat. Soc. B 69, 369–390).

    Args:
        source: shape (n,), the cluster of each observation.

    Returns:
        Weights, shape (R, n): how often each observation occurs in each resample; and whether all resamples are
        enumerated.

    Raises:
        UnanswerableError: there are fewer than three sources.
    """
    sources, cluster = _clusters(source, "source")
    if exact := sources**sources <= exact_up_to:
        times = _all_draws(sources)
    else:
        times = _draws(sources, resamples, np.random.default_rng(seed))
    return times[:, cluster], exact


def two_way_weights(source: Ints, target: Ints, resamples: int, seed: int) -> Weights:
    """Return pigeonhole bootstrap weights: sources and targets are drawn with replacement, independently of each other.

    A dyad's weight is (times its source was drawn) × (times its target was drawn) (Owen 2007, Ann. Appl. Stat. 1,
    386–411). The method is conservative: its variance is never much below that of two-way effects.

    Args:
        source, target: shape (n,).

    Returns:
        Weights, shape (resamples, n). A resample may be empty if not every source is paired with every target.

    Raises:
        UnanswerableError: there are fewer than three sources or targets.
    """
    of_source, of_target = two_way_times(source, target, resamples, seed)
    of_source *= of_target
    return of_source


def two_way_times(source: Ints, target: Ints, resamples: int, seed: int) -> tuple[Weights, Weights]:
    """Return how often the source and the target of every dyad were drawn, the two factors of `two_way_weights`.

    Returns:
        Shapes (resamples, n).

    Raises:
        UnanswerableError: there are fewer than three sources or targets.
    """
    sources, of_source = _clusters(source, "source")
    targets, of_target = _clusters(target, "target")
    rng = np.random.default_rng(seed)
    times = _draws(sources, resamples, rng)[:, of_source]
    return times, _draws(targets, resamples, rng)[:, of_target]


def percentile_interval(samples: Floats, level: float, method: str, structure: str, reference: str) -> Interval:
    """Return the percentile interval of the resampled values (Efron 1979; quantiles interpolated linearly).

    Args:
        samples: shape (R,); NaN where a resample gave no value. NaN are dropped, and the note gives their number.
        method, structure, reference: stored in the interval.

    Raises:
        UnanswerableError: no resample gave a value.
    """
    valid = samples[np.isfinite(samples)]
    dropped = len(samples) - len(valid)
    if not len(valid):
        raise UnanswerableError(f"a variable is constant in each of {len(samples):,} resamples")
    tail = (1.0 - level) / 2
    low, high = np.quantile(valid, [tail, 1.0 - tail])
    return Interval(
        low=float(low),
        high=float(high),
        level=level,
        method=method,
        structure=structure,
        reference=reference,
        resamples=len(samples),
        note=(
            f"{dropped:,} of {len(samples):,} resamples dropped, because a variable is constant or predictors are "
            "collinear"
            if dropped
            else ""
        ),
    )


def _clusters(of_observation: Ints, what: str) -> tuple[int, NDArray[np.intp]]:
    """Return the number of clusters and the cluster of every observation."""
    names, cluster = np.unique(of_observation, return_inverse=True)
    if len(names) < FEWEST_CLUSTERS:
        plural = "" if len(names) == 1 else "s"
        raise UnanswerableError(
            f"there {'is' if not plural else 'are'} {len(names)} {what}{plural}; "
            f"resampling whole {what}s needs at least {FEWEST_CLUSTERS}"
        )
    return len(names), cluster


def _all_draws(clusters: int) -> Weights:
    """Count how often each cluster occurs in each of the clusters^clusters ordered resamples."""
    return _times(np.array(list(product(range(clusters), repeat=clusters))), clusters)


def _draws(clusters: int, resamples: int, rng: np.random.Generator) -> Weights:
    """Count how often each cluster occurs in each of `resamples` random resamples."""
    return _times(rng.integers(clusters, size=(resamples, clusters)), clusters)


def _times(drawn: NDArray[np.int64], clusters: int) -> Weights:
    """Count the clusters, shape (R, clusters), in draws (R, size)."""
    cells = drawn + clusters * np.arange(len(drawn))[:, None]
    counts = np.bincount(cells.ravel(), minlength=clusters * len(drawn))
    return counts.reshape(len(drawn), clusters).astype(np.float32)
