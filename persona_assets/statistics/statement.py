"""Statements: an estimate with its interval and p-value, and the assumptions behind them.

Every statement has two rows with the same name: view `iid` assumes independent dyads, as is common in the field; view
`dyadic` accounts for the dependence between dyads. A third view, `check`, has alternative methods for the dyadic one. A
statement that cannot be computed is a row without a number, whose note says why.
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


_TOO_NARROW = "this interval is narrower than that of n independent observations"


class UnanswerableError(ValueError):
    """The data do not allow a statement; the message is the reason after "not computed: "."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval.

    Attributes:
        level: coverage, within (0, 1).
        method: how it was computed, such as `cluster bootstrap over 5 sources, exact`.
        structure: what was assumed to be independent, exchangeable or a cluster.
        reference: the paper.
        resamples: their number, 0 if there are none.
        note: caveats, such as dropped resamples.
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
    """A two-sided p, and the smallest p that the method can give for this design (0 if it has no such bound)."""

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
        family: leakage, comparison, models, pairs, coupling, kinds, negatives, outcomes, noise, influence, looks, power
            or design.
        quantity: such as `spearman`, `partial spearman`, `delta R²`.
        outcome, predictor, given: columns of the pair table; `given` joins several with ` + `.
        n: observations; n_effective: number of independent observations that would give the same interval width. If it
            exceeds n, it is left out of the table, and the note says so.
        unanswerable: why there is no number; "" if there is one.
        p_adjusted: p adjusted for multiple looks; the note names the method.
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
        """Return the name that all views of a statement share."""
        about = f"{self.quantity}: {self.outcome}" if self.outcome else self.quantity
        about = f"{about} ~ {self.predictor}" if self.outcome and self.predictor else about
        return f"{about} | {self.given}" if self.given else about

    def row(self) -> dict[str, object]:
        """Return the statement as a row of `COLUMNS`."""
        parts: list[Interval | PValue] = [part for part in (self.interval, self.p) if part is not None]
        notes = [self.note, *(part.note for part in parts)]
        too_narrow = self.n is not None and self.n_effective > self.n
        if too_narrow:
            notes.append(_TOO_NARROW)
        if self.unanswerable:
            notes.insert(0, f"not computed: {self.unanswerable}")
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
            "n_effective": math.nan if too_narrow else self.n_effective,
            "method": "; ".join(f"{label}: {part.method}" for label, part in labels.items() if part),
            "structure": _once(part.structure for part in parts),
            "resamples": max((part.resamples for part in parts), default=0) or None,
            "seed": self.seed,
            "reference": _once(part.reference for part in parts),
            "note": _once(notes),
        }


def tabulate(statements: Sequence[Statement]) -> pd.DataFrame:
    """Return statements as a tidy table with the columns and types of `COLUMNS`, one row per name and view."""
    rows = [statement.row() for statement in statements]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object).astype(COLUMNS)


def _once(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
