"""Inputs of an analysis: the dyads, the settings and the predictors to compare."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.families.sample import JS, Sample, Settings
from persona_assets.statistics.replies import Replies
from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Inputs:
    """Dyads, settings, and the cosine that the verdict is about.

    Attributes:
        primary: column of that cosine; "" if there is none.
        by_question: JS per question, shape (Q, K, K) in the order of `dyads.personas`; None if it is not known.
        generators: columns of JS under other generator subsets.
        replies: averages of the outcome over the replies behind it; None if they are not known.
    """

    dyads: Dyads
    baseline: str
    settings: Settings
    primary: str
    by_question: Floats | None
    generators: tuple[str, ...]
    replies: Replies | None = None

    @property
    def cosines(self) -> tuple[str, ...]:
        """Return the columns of the cosines, the primary one first."""
        names = [name for name in self.dyads.predictors if name.startswith("cosine_")]
        return tuple(sorted(names, key=lambda name: name != self.primary))

    @property
    def looks(self) -> tuple[str, ...]:
        """Return the predictors to compare: JS and every cosine."""
        return tuple(name for name in (JS, *self.cosines) if name in self.dyads.predictors)

    @cached_property
    def _groups(self) -> Mapping[tuple[str, ...], Sample]:
        """Group predictors that are known for the same pairs, so that they share one sample."""
        groups: dict[bytes, list[str]] = {}
        for name in self.looks:
            groups.setdefault(np.isfinite(self.dyads.predictors[name]).tobytes(), []).append(name)
        return {tuple(names): self._of(names) for names in groups.values()}

    def _of(self, names: list[str]) -> Sample:
        together = tuple(dict.fromkeys([JS, *names])) if JS in self.dyads.predictors else tuple(names)
        return Sample(self.dyads.known(*together), together, self.settings)

    def sample(self, predictor: str) -> Sample:
        """Return the dyads at which JS and this predictor are known."""
        return next(sample for names, sample in self._groups.items() if predictor in names)

    @cached_property
    def all_looks(self) -> Sample:
        """Return the dyads at which every predictor is known, with relabellings that are valid for all of them."""
        samples = list(self._groups.values())
        return samples[0] if len(samples) == 1 else self._of(list(self.looks))

    def matrix(self, predictor: str) -> Floats:
        """Return a predictor between all personas, (K, K).

        Raises:
            UnanswerableError: it is not in the table.
        """
        if predictor not in self.dyads.predictors:
            raise UnanswerableError(f"the pair table has no {predictor or 'cosine'} column")
        return self.dyads.predictors[predictor]
