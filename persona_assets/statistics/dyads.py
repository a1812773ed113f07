"""The pair table as arrays: dyads with a measured outcome, and K×K predictors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.statistics.statement import UnanswerableError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RATE = "leakage_rate"
# Outcome as a study names it → its column of the pair table. The first one that a table has is the default.
OUTCOMES = {"expected_rate": "expected_rate", "rate": RATE, "log_prob_gain": "log_prob_gain"}
# How the verdict and the statements call an outcome.
SPOKEN = {RATE: "rate", "expected_rate": "expected rate", "log_prob_gain": "gain in log-probability"}
# Whether a target was a trained negative of the source, and the share of training examples that it had.
NEGATIVE, NEGATIVE_SHARE = "trained_negative", "negative_share"

# Columns of the pair table that look like predictors but are intervals of one.
_INTERVALS = ("js_low", "js_high")


@dataclass(frozen=True, eq=False)
class Dyads:
    """n dyads whose leakage was measured, of K personas.

    Attributes:
        personas: K names; source and target are indices into it.
        source, target: shape (n,).
        outcome: shape (n,), the values of the outcome.
        found, total: shape (n,), float64; NaN if only the rate is known, or if the outcome is not the rate.
        predictors: name → (K, K), [source, target], float64; NaN on the diagonal and where not measured. Also
            `trained_negative` and `negative_share`, if they are known.
        categories: the personas' categories, K names.
        outcome_name: the outcome's column of the pair table.
        by_seed: shape (n, M), the outcome per training seed of the dyad's source, NaN where a source has fewer seeds;
            None if it is not known or there is one seed. Column m of two sources are unrelated seeds.
    """

    personas: tuple[str, ...]
    source: Ints
    target: Ints
    outcome: Floats
    found: Floats
    total: Floats
    predictors: Mapping[str, Floats]
    categories: tuple[str, ...]
    outcome_name: str = RATE
    by_seed: Floats | None = None

    @property
    def n(self) -> int:
        """Return the number of dyads."""
        return len(self.outcome)

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
        fields = ("source", "target", "outcome", "found", "total")
        by_seed = None if self.by_seed is None else self.by_seed[kept]
        return replace(self, **{name: getattr(self, name)[kept] for name in fields}, by_seed=by_seed)

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


def outcome_column(pair_table: pd.DataFrame, outcome: str | None) -> str:
    """Return the column of an outcome; for None the expected rate if the table has any, otherwise the rate.

    Raises:
        ValueError: the outcome is not one of `OUTCOMES`.
    """
    if outcome is None:
        return next((column for column in measured_outcomes(pair_table) if column != "log_prob_gain"), RATE)
    if outcome not in OUTCOMES:
        raise ValueError(f"statistics.outcome: found {outcome!r}; expected one of {', '.join(OUTCOMES)}")
    return OUTCOMES[outcome]


def measured_outcomes(pair_table: pd.DataFrame) -> list[str]:
    """Return the outcome columns with at least one known value, in the order of `OUTCOMES`."""
    return [column for column in OUTCOMES.values() if np.isfinite(_floats(pair_table, column)).any()]


def read_dyads(pair_table: pd.DataFrame, outcome: str = RATE) -> Dyads:
    """Read the dyads of a pair table.

    Args:
        pair_table: table from `metrics.build_pair_table`: every ordered pair of K personas; unmeasured outcomes are
            missing.
        outcome: the outcome's column.

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
    values = _floats(pair_table, outcome)
    unknown = np.full(len(values), np.nan)
    dyads = Dyads(
        personas=personas,
        source=source,
        target=target,
        outcome=values,
        found=_floats(pair_table, "leakage_found") if outcome == RATE else unknown,
        total=_floats(pair_table, "leakage_total") if outcome == RATE else unknown,
        predictors=predictors,
        categories=tuple(str(of_source[name]) for name in personas),
        outcome_name=outcome,
    )
    measured = dyads.keep(np.isfinite(values))
    if not measured.n:
        what = "leakage" if outcome == RATE else f"{outcome} of leakage"
        raise UnanswerableError(f"{what} was measured in no dyad")
    return measured


def predictor_columns(pair_table: pd.DataFrame) -> list[str]:
    """Return the pair table's predictor columns with a known value: JS, KL, cosines and trained negatives."""
    starts = ("js", "kl", "cosine_", NEGATIVE, NEGATIVE_SHARE)
    named = [str(c) for c in pair_table.columns if str(c).startswith(starts) and c not in _INTERVALS]
    return [column for column in named if np.isfinite(_floats(pair_table, column)).any()]


def _floats(table: pd.DataFrame, column: str) -> Floats:
    if column not in table:
        return np.full(len(table), np.nan)
    return np.asarray(pd.to_numeric(table[column]).to_numpy(dtype=np.float64, na_value=np.nan))
