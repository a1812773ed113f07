"""What the room says: a statement is a number, how sure it is, and what was taken as independent to say so.

Every statement stands twice, as two rows that share a name: `iid`, as the field reports it, where every dyad counts as
an observation of its own; and `dyadic`, as the dependence between dyads allows. A third view, `check`, holds further
ways to the second. What cannot be answered is a row too: no number, and a note that says why.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

View = Literal["iid", "dyadic", "check"]

COLUMNS = {
    "family": "str",
    "name": "str",
    "quantity": "str",
    "outcome": "str",
    "predictor": "str",
    "given": "str",
    "view": "str",
    "estimate": "float64",
    "low": "float64",
    "high": "float64",
    "level": "float64",
    "p": "float64",
    "p_adjusted": "float64",
    "smallest_p": "float64",
    "n": "Int64",
    "n_effective": "float64",
    "method": "str",
    "structure": "str",
    "resamples": "Int64",
    "seed": "Int64",
    "reference": "str",
    "note": "str",
}


class UnanswerableError(ValueError):
    """A question that these data cannot answer; the message completes "cannot be answered, because …"."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval.

    Attributes:
        level: coverage, within (0, 1).
        method: how it was made, such as `cluster bootstrap over 5 sources, exact`.
        structure: what was taken as exchangeable or as a cluster.
        reference: the paper.
        resamples: how many, 0 where there are none.
        note: what a reader must know, such as resamples that had to be dropped.
    """

    low: float
    high: float
    level: float
    method: str
    structure: str
    reference: str
    resamples: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class PValue:
    """A two-sided p, and the smallest that the design could have given (0 where it is not bounded by the design)."""

    p: float
    smallest: float
    method: str
    structure: str
    reference: str
    resamples: int = 0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One row of the table.

    Attributes:
        family: what it is about: leakage, comparison, models, pairs, coupling, noise, influence, looks, power.
        quantity: such as `spearman`, `partial spearman`, `delta R²`.
        outcome, predictor, given: columns of the pair table; `given` joins several by ` + `.
        n: observations; n_effective: how many independent ones would have given the interval's width.
        unanswerable: why there is no number; "" where there is one.
        p_adjusted: p corrected for all looks; the note names the correction.
    """

    family: str
    quantity: str
    view: View
    outcome: str = ""
    predictor: str = ""
    given: str = ""
    estimate: float = math.nan
    interval: Interval | None = None
    p: PValue | None = None
    p_adjusted: float = math.nan
    n: int | None = None
    n_effective: float = math.nan
    seed: int | None = None
    unanswerable: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """What the two views of a statement share."""
        about = f"{self.quantity}: {self.outcome} ~ {self.predictor}" if self.outcome else self.quantity
        return f"{about} | {self.given}" if self.given else about

    def row(self) -> dict[str, object]:
        """The statement as a row of `COLUMNS`."""
        parts: list[Interval | PValue] = [part for part in (self.interval, self.p) if part is not None]
        notes = [self.note, *(part.note for part in parts)]
        if self.unanswerable:
            notes.insert(0, f"cannot be answered, because {self.unanswerable}")
        labels = {"interval": self.interval, "p": self.p}
        return {
            "family": self.family,
            "name": self.name,
            "quantity": self.quantity,
            "outcome": self.outcome,
            "predictor": self.predictor,
            "given": self.given,
            "view": self.view,
            "estimate": self.estimate,
            "low": self.interval.low if self.interval else math.nan,
            "high": self.interval.high if self.interval else math.nan,
            "level": self.interval.level if self.interval else math.nan,
            "p": self.p.p if self.p else math.nan,
            "p_adjusted": self.p_adjusted,
            "smallest_p": self.p.smallest if self.p else math.nan,
            "n": self.n,
            "n_effective": self.n_effective,
            "method": "; ".join(f"{label}: {part.method}" for label, part in labels.items() if part),
            "structure": _once(part.structure for part in parts),
            "resamples": max((part.resamples for part in parts), default=0) or None,
            "seed": self.seed,
            "reference": _once(part.reference for part in parts),
            "note": _once(notes),
        }


def tabulate(statements: Sequence[Statement]) -> pd.DataFrame:
    """Statements as a tidy table with the columns and types of `COLUMNS`, one row a name and view."""
    rows = [statement.row() for statement in statements]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype(COLUMNS)


def _once(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
