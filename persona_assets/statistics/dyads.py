"""The pair table as arrays: dyads with a measured outcome, and K×K predictors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Columns of the pair table that look like predictors but are intervals of one.
_INTERVALS = ("js_low", "js_high")


@dataclass(frozen=True, eq=False)
class Dyads:
    """n dyads whose leakage was measured, of K personas.

    Attributes:
        personas: K names; source and target are indices into it.
        source, target: shape (n,).
        rate: shape (n,), found / total.
        found, total: shape (n,), float64; NaN if only the rate is known.
        predictors: name → (K, K), [source, target], float64; NaN on the diagonal and where not measured.
        categories: the personas' categories, K names.
    """

    personas: tuple[str, ...]
    source: Ints
    target: Ints
    rate: Floats
    found: Floats
    total: Floats
    predictors: Mapping[str, Floats]
    categories: tuple[str, ...]

    @property
    def n(self) -> int:
        """Return the number of dyads."""
        return len(self.rate)

    @property
    def sources(self) -> Ints:
        """Return the indices of the personas that are a source, ascending."""
        return np.unique(self.source)

    @property
    def targets(self) -> Ints:
        """Return the indices of the personas that are a target, ascending."""
        return np.unique(self.target)

    def at(self, predictor: str) -> Floats:
        """Return a predictor's values at the n dyads."""
        return np.asarray(self.predictors[predictor][self.source, self.target])

    def keep(self, kept: NDArray[np.bool_]) -> "Dyads":
        """Return only the dyads where `kept`, shape (n,), is true, with all personas and predictors."""
        fields = ("source", "target", "rate", "found", "total")
        return replace(self, **{name: getattr(self, name)[kept] for name in fields})

    def known(self, *predictors: str) -> "Dyads":
        """Return only the dyads where all of these predictors are known."""
        return self.keep(np.all([np.isfinite(self.at(name)) for name in predictors], axis=0))

    def without(self, persona: int) -> "Dyads":
        """Return the dyads and predictors without one persona, given by its index."""
        left = [place for place in range(len(self.personas)) if place != persona]
        new_place = np.full(len(self.personas), -1)
        new_place[left] = np.arange(len(left))
        kept = self.keep((self.source != persona) & (self.target != persona))
        return replace(
            kept,
            personas=tuple(self.personas[place] for place in left),
            categories=tuple(self.categories[place] for place in left),
            source=new_place[kept.source],
            target=new_place[kept.target],
            predictors={name: matrix[np.ix_(left, left)] for name, matrix in self.predictors.items()},
        )


def read_dyads(pair_table: pd.DataFrame) -> Dyads:
    """Read the dyads of a pair table.

    Args:
        pair_table: table from `metrics.build_pair_table`: every ordered pair of K personas; unmeasured outcomes are
            missing.

    Raises:
        UnanswerableError: there are fewer than two personas, or no dyad has an outcome.
    """
    personas = tuple(dict.fromkeys(str(name) for name in pair_table["source"])) if len(pair_table) else ()
    if len(personas) < 2:
        raise UnanswerableError(f"the pair table has {len(personas)} personas; a dyad needs two")
    place = {name: number for number, name in enumerate(personas)}
    source, target = (np.array([place[name] for name in pair_table[side]]) for side in ("source", "target"))
    of_source = dict(zip(pair_table["source"], pair_table["source_category"], strict=True))
    predictors = {}
    for column in predictor_columns(pair_table):
        matrix = np.full((len(personas),) * 2, np.nan)
        matrix[source, target] = _floats(pair_table, column)
        predictors[column] = matrix
    rate = _floats(pair_table, "leakage_rate")
    dyads = Dyads(
        personas=personas,
        source=source,
        target=target,
        rate=rate,
        found=_floats(pair_table, "leakage_found"),
        total=_floats(pair_table, "leakage_total"),
        predictors=predictors,
        categories=tuple(str(of_source[name]) for name in personas),
    )
    measured = dyads.keep(np.isfinite(rate))
    if not measured.n:
        raise UnanswerableError("leakage was measured in no dyad")
    return measured


def predictor_columns(pair_table: pd.DataFrame) -> list[str]:
    """Return the predictor columns of a pair table: JS, KL and cosines with at least one known value."""
    named = [str(c) for c in pair_table.columns if str(c).startswith(("js", "kl", "cosine_")) and c not in _INTERVALS]
    return [column for column in named if np.isfinite(_floats(pair_table, column)).any()]


def _floats(table: pd.DataFrame, column: str) -> Floats:
    if column not in table:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[column]).to_numpy(dtype=np.float64, na_value=np.nan))
