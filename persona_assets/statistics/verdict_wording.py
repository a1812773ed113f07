"""Words of the verdict for one correlation or one difference, and how its numbers are written."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from persona_assets.statistics.dyads import RATE, SPOKEN

Predicts = Literal["predicts", "may predict", "is not shown to predict"]
# The same of two predictors.
BOTH: dict[str, str] = {
    "predicts": "both predict",
    "may predict": "may both predict",
    "is not shown to predict": "are both not shown to predict",
}


@dataclass(frozen=True)
class Rule:
    """One rule, its outcome, and the numbers behind it."""

    name: str
    outcome: str
    because: str


def predicts(row: pd.Series) -> Predicts:
    """Return whether both, one or neither of p and the interval say that a correlation is not 0."""
    signs = int(row["p"] <= alpha(row)) + int(row["low"] > 0 or row["high"] < 0)
    outcomes: tuple[Predicts, ...] = ("is not shown to predict", "may predict", "predicts")
    return outcomes[signs]


def checked(statements: pd.DataFrame, difference: pd.Series) -> pd.DataFrame:
    """Return the rows of the difference with the reported interval and those of the checks."""
    rows: pd.DataFrame = statements[
        (statements["name"] == difference["name"]) & statements["view"].isin(["dyadic", "check"])
    ]
    return rows


def leaves_out_zero(rows: Any) -> Any:
    """Return whether the intervals of these rows, or of this row, exclude 0."""
    return (rows["low"] > 0) | (rows["high"] < 0)


def leads(statements: pd.DataFrame, difference: pd.Series) -> str:
    """Return `JS`, `cosine` or `inconclusive`: which predicts better, by p and every interval of the difference."""
    told = leaves_out_zero(checked(statements, difference)).all()
    if told and difference["p"] <= alpha(difference):
        return "JS" if difference["estimate"] > 0 else "cosine"
    return "inconclusive"


def alpha(row: pd.Series) -> float:
    """Return 1 less the level of the row."""
    return float(1 - row["level"] + 1e-12)  # 1 − 0.95 is slightly below 0.05 in floating point


def figures(row: pd.Series, symbol: str) -> str:
    """Return an estimate with its interval and p."""
    p = f"p = {row['p']:.2g}" if not math.isnan(row["p"]) else "no p"
    interval = f"{percent(row['level'])} {signed(row['low'])} to {signed(row['high'])}"
    return f"{symbol} {signed(row['estimate'])}, {interval}, {p}"


def spoken(cosine: str) -> str:
    """Return a cosine's name, from its column."""
    population, _, layer = cosine.removeprefix("cosine_").rpartition("_layer")
    return f"cosine (layer {layer}, centred on {population.replace('_', ' ')})"


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:g}%"


def signed(value: float) -> str:
    """Return a number with its sign and two decimals."""
    return f"{value:+.2f}".replace("-", "−")


def by_outcome(row: pd.Series) -> str:
    """Return the outcome in parentheses if it is not the rate."""
    outcome = str(row["outcome"])
    return "" if outcome in ("", RATE) else f" ({SPOKEN.get(outcome, outcome)})"
