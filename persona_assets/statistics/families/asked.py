"""What is asked of a pair table."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.families.sample import JS, Sample, Settings
from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Asked:
    """The dyads, the settings, and which cosine the verdict is about.

    Attributes:
        primary: column of that cosine; "" where there is none.
        by_question: JS of each question, shape (Q, K, K) in the order of `dyads.personas`; None where it is not known.
        generators: columns of JS under other choices of generators.
    """

    dyads: Dyads
    baseline: str
    settings: Settings
    primary: str
    by_question: Floats | None
    generators: tuple[str, ...]

    @property
    def cosines(self) -> tuple[str, ...]:
        """Columns of the cosines, the primary one first."""
        names = [name for name in self.dyads.predictors if name.startswith("cosine_")]
        return tuple(sorted(names, key=lambda name: name != self.primary))

    @property
    def looks(self) -> tuple[str, ...]:
        """The predictors that are looked at beside one another: JS and every cosine."""
        return tuple(name for name in (JS, *self.cosines) if name in self.dyads.predictors)

    @cached_property
    def _groups(self) -> Mapping[tuple[str, ...], Sample]:
        """Predictors that are known at the same dyads and between the same personas share one sample."""
        groups: dict[bytes, list[str]] = {}
        for name in self.looks:
            groups.setdefault(np.isfinite(self.dyads.predictors[name]).tobytes(), []).append(name)
        return {tuple(names): self._of(names) for names in groups.values()}

    def _of(self, names: list[str]) -> Sample:
        together = tuple(dict.fromkeys([JS, *names])) if JS in self.dyads.predictors else tuple(names)
        return Sample(self.dyads.known(*together), together, self.settings)

    def sample(self, predictor: str) -> Sample:
        """The dyads at which JS and this predictor are known."""
        return next(sample for names, sample in self._groups.items() if predictor in names)

    @cached_property
    def all_looks(self) -> Sample:
        """The dyads at which every predictor is known, under relabellings that all of them allow."""
        samples = list(self._groups.values())
        return samples[0] if len(samples) == 1 else self._of(list(self.looks))

    def matrix(self, predictor: str) -> Floats:
        """A predictor between all personas, (K, K).

        Raises:
            UnanswerableError: it is not in the table.
        """
        if predictor not in self.dyads.predictors:
            raise UnanswerableError(f"the pair table holds no {predictor or 'cosine'}")
        return self.dyads.predictors[predictor]
