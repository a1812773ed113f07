"""Training seeds in the bootstrap: within every drawn source, its seeds are drawn with replacement.

A source trained with M seeds has M outcomes per target, and its outcome is their mean. Seeds are replicates of a
source, not sources: a resample draws sources, and for every drawn source M of its seeds (Davison & Hinkley 1997,
Bootstrap Methods, section 3.8, two-stage sampling). A draw of seeds is a *version* of the source. There are few
distinct ones (10 for three seeds), so every dyad is repeated once per version, and a resample is a row of weights over
dyads × versions.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dyads import Dyads

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_ROWS = 20_000  # dyads × versions, which limits memory
_FEWEST_VERSIONS = 3


@dataclass(frozen=True, eq=False)
class SeedVersions:
    """Dyads repeated for every draw of their source's seeds.

    Attributes:
        dyad: shape (N,), index of each row's dyad.
        outcome: shape (N,), the outcome under that draw.
        sources: for every source, the index of its first dyad, the rows of its versions, shape (V, dyads), and the
            versions' probabilities, shape (V,).
    """

    dyad: Ints
    outcome: Floats
    sources: tuple[tuple[int, Ints, Floats], ...]

    def weights(self, of_source: NDArray[Any], of_dyad: NDArray[Any], seed: int) -> NDArray[np.float32]:
        """Draw a version for every time that a source is drawn.

        Args:
            of_source: shape (R, n), how often each dyad's source was drawn.
            of_dyad: shape (R, n), what else the dyad is weighted with, such as how often its target was drawn.

        Returns:
            Shape (R, N).
        """
        rng = np.random.default_rng(seed)
        drawn = np.empty((len(of_source), len(self.dyad)), dtype=np.float32)
        for first, rows, share in self.sources:
            times = rng.multinomial(np.asarray(of_source[:, first], dtype=np.int64), share)
            for version, of_version in enumerate(rows):
                drawn[:, of_version] = times[:, version, None] * of_dyad[:, self.dyad[of_version]]
        return drawn


def seed_versions(dyads: Dyads, seed: int) -> SeedVersions | None:
    """Return the versions of every source; None if no source has outcomes of two or more seeds.

    The versions' mean over their probabilities is the dyad's outcome. If there are too many versions, a random sample
    of them is used.
    """
    if dyads.by_seed is None or (np.isfinite(dyads.by_seed).sum(axis=1) < 2).all():
        return None
    rng = np.random.default_rng(seed)
    most = max(_FEWEST_VERSIONS, _MOST_ROWS // max(1, dyads.n))
    dyad, outcome, sources, rows = [], [], [], 0
    for source in dyads.sources:
        own = np.flatnonzero(dyads.source == source)
        values = dyads.by_seed[own]
        values = values[:, np.isfinite(values).all(axis=0)]  # seeds that were measured in every dyad of the source
        times, share = _versions(max(1, values.shape[1]), most, rng)
        shift = (values - values.mean(axis=1, keepdims=True)) @ times.T if values.size else np.zeros((len(own), 1))
        sources.append((int(own[0]), rows + np.arange(shift.size).reshape(shift.T.shape), share))
        dyad.append(np.tile(own, len(share)))
        outcome.append((dyads.outcome[own, None] + shift).T.ravel())
        rows += shift.size
    return SeedVersions(np.concatenate(dyad), np.concatenate(outcome), tuple(sources))


def _versions(seeds: int, most: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the weights of the seeds in every version, (V, seeds), each row summing to 1, and their probabilities."""
    if math.comb(2 * seeds - 1, seeds) > most:
        times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=most) / seeds
        return times - times.mean(axis=0) + 1 / seeds, np.full(most, 1 / most)
    draws = [Counter(draw) for draw in combinations_with_replacement(range(seeds), seeds)]
    times = np.array([[draw[place] for place in range(seeds)] for draw in draws])
    ways = math.factorial(seeds) / np.array([math.prod(map(math.factorial, row)) for row in times.tolist()])
    return times / seeds, ways / ways.sum()
