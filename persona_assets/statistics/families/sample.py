"""Dyads at which a set of predictors is known, with cached resamples and relabellings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.correlations import require_varying
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.jackknife import jackknife_interval, left_out_weights
from persona_assets.statistics.labels import LabelPermutations, label_permutations, relabelling_blocks
from persona_assets.statistics.mrqap import mrqap
from persona_assets.statistics.permutation import permuted_correlations
from persona_assets.statistics.resampling import (
    percentile_interval,
    source_weights,
    two_way_times,
    two_way_weights,
)
from persona_assets.statistics.seeds import SeedVersions, seed_versions
from persona_assets.statistics.statement import Interval, PValue, Statement, UnanswerableError, View
from persona_assets.statistics.weighted import Coefficient, correlation_matrices

Floats = NDArray[np.float64]

FEW_SOURCES = 20
TOO_NARROW = (
    "in simulations with 5 or 11 sources, nominal 95% intervals of this kind covered the true value in 83–90% of "
    "cases, the jackknife in 91–97%, the two-way bootstrap in 97–100% (benchmarks/results/calibration.md)"
)
BOTH: tuple[Coefficient, ...] = ("spearman", "pearson")
JS = "js"
_CLUSTERS = "Davison & Hinkley 1997, Bootstrap Methods, section 3.8"
_WITH_SEEDS = ", training seeds drawn within each source"
_PIGEONHOLE = "Owen 2007, Ann. Appl. Stat. 1, 386–411"


@dataclass(frozen=True)
class Settings:
    """Numbers of permutations, resamples and simulations, seed and level, as in `study.settings.Statistics`.

    Attributes:
        simulations: simulated studies per size in the power analysis.
    """

    permutations: int = 10_000
    resamples: int = 2000
    seed: int = 42
    level: float = 0.95
    simulations: int = 200


@dataclass(frozen=True, eq=False)
class Sample:
    """n dyads at which m predictors are known.

    Variable 0 of all matrices is leakage, variable 1 + i is predictor i.
    """

    dyads: Dyads
    predictors: tuple[str, ...]
    settings: Settings

    def variable(self, predictor: str) -> int:
        """Return the index of a predictor in the matrices."""
        return 1 + self.predictors.index(predictor)

    @cached_property
    def values(self) -> Floats:
        """Return leakage and the predictors at the dyads, shape (1 + m, n)."""
        return np.stack([self.dyads.outcome, *(self.dyads.at(name) for name in self.predictors)])

    @cached_property
    def _made(self) -> dict[tuple[str, Coefficient], Floats]:
        return {}

    def require_varying(self, *predictors: str) -> None:
        """Require that leakage and these predictors vary over the dyads.

        Raises:
            UnanswerableError: one of them is constant, or there is no dyad.
        """
        if not self.dyads.n:
            raise UnanswerableError(f"no dyad has both leakage and {' and '.join(predictors)}")
        for name in predictors:
            require_varying(self.dyads.at(name), name, "dyad")
        require_varying(self.dyads.outcome, self.dyads.outcome_name, "dyad")

    @cached_property
    def observed(self) -> dict[str, Floats]:
        """Return the correlation matrix of the observed dyads, by coefficient, shape (1 + m, 1 + m)."""
        once = np.ones((1, self.dyads.n))
        return {name: correlation_matrices(self.values, once, name)[0] for name in BOTH}

    @cached_property
    def _clusters(self) -> tuple[Any, bool]:
        return source_weights(self.dyads.source, self.settings.resamples, self.settings.seed)

    @cached_property
    def _two_way(self) -> Any:
        return two_way_weights(self.dyads.source, self.dyads.target, self.settings.resamples, self.settings.seed)

    def weights(self, way: str) -> Any:
        """Return how often each dyad occurs in each resample, shape (R, n).

        Args:
            way: `sources`, `two-way`, `dyads` (independent dyads) or `without a source` (jackknife).
        """
        match way:
            case "sources":
                return self._clusters[0]
            case "two-way":
                return self._two_way
            case "dyads":
                draws = np.random.default_rng(self.settings.seed)
                share = np.full(self.dyads.n, 1 / self.dyads.n)
                return draws.multinomial(self.dyads.n, share, size=self.settings.resamples)
            case _:
                return left_out_weights(self.dyads.source)

    def resampled(self, way: str, coefficient: Coefficient) -> Floats:
        """Return the correlation matrices of every resample, shape (R, 1 + m, 1 + m).

        Args:
            way: as in `weights`. `sources` and `two-way` also draw training seeds within a source that has several.
        """
        if (way, coefficient) not in self._made:
            values, weights = self.drawn(way)
            self._made[way, coefficient] = correlation_matrices(values, weights, coefficient)
        return self._made[way, coefficient]

    @cached_property
    def _versions(self) -> SeedVersions | None:
        return seed_versions(self.dyads, self.settings.seed)

    def drawn(self, way: str, further: Floats | None = None) -> tuple[Floats, Any]:
        """Return the variables and weights of all resamples: of the dyads, or of the dyads times their seeds' versions.

        Args:
            way: as in `weights`.
            further: shape (k, n), variables to append; they do not depend on the seeds.

        Returns:
            Values, shape (1 + m + k, N), and weights, shape (R, N).
        """
        values = self.values if further is None else np.vstack([self.values, further])
        if (versions := self._versions) is None or way not in ("sources", "two-way"):
            return values, self.weights(way)
        values = values[:, versions.dyad]
        values[0] = versions.outcome
        if way == "sources":
            times = self.weights(way)
            return values, versions.weights(times, np.ones_like(times), self.settings.seed)
        of_both = two_way_times(self.dyads.source, self.dyads.target, self.settings.resamples, self.settings.seed)
        return values, versions.weights(*of_both, self.settings.seed)

    @property
    def ways(self) -> tuple[str, str]:
        """Return the bootstrap used for dyadic intervals and the one used as a check.

        Resampling sources comes first if all its resamples can be enumerated, otherwise the two-way bootstrap.
        """
        return ("sources", "two-way") if self._clusters[1] else ("two-way", "sources")

    def bootstrap(self, way: str, coefficient: Coefficient, statistic: Callable[[Floats], Floats]) -> Interval:
        """Return the percentile interval of a function of correlation matrices, (R, 1 + m, 1 + m) → (R,)."""
        samples = statistic(self.resampled(way, coefficient))
        sources, targets = len(self.dyads.sources), len(self.dyads.targets)
        if way == "sources":
            drawn = "all" if self._clusters[1] else "random"
            method = f"cluster bootstrap over {sources} sources, {drawn} {len(samples):,} resamples"
            structure, reference = "a source with all its dyads is one cluster", _CLUSTERS
            method += _WITH_SEEDS * (self._versions is not None)
        elif way == "two-way":
            method = f"two-way bootstrap over {sources} sources and {targets} targets, {len(samples):,} resamples"
            structure, reference = "dyads that share a source or a target are dependent", _PIGEONHOLE
            method += _WITH_SEEDS * (self._versions is not None)
        else:
            method, structure = f"bootstrap over dyads, {len(samples):,} resamples", "every dyad independent"
            reference = "Efron 1979, Ann. Stat. 7, 1–26"
        interval = percentile_interval(samples, self.settings.level, method, structure, reference)
        if way != "sources" or sources > FEW_SOURCES:
            return interval
        return replace(interval, note="; ".join(note for note in (interval.note, TOO_NARROW) if note))

    def jackknife(
        self, coefficient: Coefficient, statistic: Callable[[Floats], Floats], fisher: bool = True
    ) -> Interval:
        """Return the delete-one-source jackknife interval of a function of correlation matrices."""
        sources = len(self.dyads.sources)
        return jackknife_interval(
            float(statistic(self.observed[coefficient][None])[0]),
            statistic(self.resampled("without a source", coefficient)),
            self.settings.level,
            method=f"jackknife, delete one of {sources} sources, {'Fisher z, ' if fisher else ''}t({sources - 1})",
            structure="a source with all its dyads is one cluster",
            transform="fisher" if fisher else "none",
        )

    @cached_property
    def relabellings(self) -> LabelPermutations:
        """Return joint relabellings of the personas that need only measured values."""
        blocks = relabelling_blocks(self.dyads, self.predictors)
        return label_permutations(len(self.dyads.personas), self.settings.permutations, self.settings.seed, blocks)

    def relabelled(self, coefficient: Coefficient) -> Floats:
        """Return the correlation of leakage with every predictor per relabelling, shape (R, m); NaN if constant."""
        if ("labels", coefficient) not in self._made:
            varying = (self.values[1:] != self.values[1:, :1]).any(axis=1)
            names = [name for name, varies in zip(self.predictors, varying, strict=True) if varies]
            made = np.full((len(self.relabellings.places), len(varying)), np.nan)
            made[:, varying] = permuted_correlations(self.dyads, names, coefficient, self.relabellings)
            self._made["labels", coefficient] = made
        return self._made["labels", coefficient]

    @cached_property
    def _p_given(self) -> dict[tuple[frozenset[str], Coefficient], dict[str, PValue]]:
        return {}

    def p_given(self, predictor: str, given: str, coefficient: Coefficient) -> PValue:
        """Return p of a predictor given another one, by MRQAP: on ranks for `spearman`, on values for `pearson`."""
        both = frozenset((predictor, given))
        if (both, coefficient) not in self._p_given:
            names = sorted(both, key=self.predictors.index)
            found = mrqap(self.dyads, names, self.relabellings, ranks=coefficient == "spearman")
            self._p_given[both, coefficient] = found
        return self._p_given[both, coefficient][predictor]

    def seed_of(self, way: str) -> int | None:
        """Return the seed of these resamples, or None if they are enumerated; `way` as in `bootstrap`."""
        return None if way == "sources" and self._enumerated else self.settings.seed

    @property
    def seed(self) -> int | None:
        """Return the seed, or None if all resamples and relabellings are enumerated."""
        return None if self._enumerated and self.relabellings.exact else self.settings.seed

    @property
    def _enumerated(self) -> bool:
        """Return whether the resamples of sources do not depend on the seed."""
        return bool(self._clusters[1]) and self._versions is None


def checks(about: Callable[..., Statement], ways: Iterable[Callable[[], dict[str, Any]]]) -> list[Statement]:
    """Return alternative methods for one number; those that fail for the same reason become one row."""
    return list(dict.fromkeys(answered(about, "check", way) for way in ways))


def answered(about: Callable[..., Statement], view: View, answer: Callable[[], dict[str, Any]]) -> Statement:
    """Return the statement with the result of `answer`, or with the reason why there is none."""
    try:
        return about(view=view, **answer())
    except UnanswerableError as error:
        return about(view=view, unanswerable=str(error))
