"""The outcomes that leakage is measured by: their columns, names, units and intervals."""

from typing import NamedTuple

import pandas as pd

_BOOTSTRAP = "95 % bootstrap intervals"


class Outcome(NamedTuple):
    """An outcome of a dyad.

    Attributes:
        column: its column in the pair table; statements name it as their outcome.
        low, high: columns of its interval in the pair table.
        in_leakage_table: its column in the leakage table.
        of_source: column of both tables with its value for the source on itself.
        of_base: column of the leakage table with its value before training; "" if it is a difference from it.
        name: display name.
        axis: display name with unit, for an axis.
        short: the same for a short axis.
        bars: how the interval was made.
        decimals: decimals shown.
        is_rate: whether it lies within [0, 1].
    """

    column: str
    low: str
    high: str
    in_leakage_table: str
    of_source: str
    of_base: str
    name: str
    axis: str
    short: str
    bars: str
    decimals: int
    is_rate: bool


EXPECTED = Outcome(
    column="expected_rate",
    low="expected_rate_low",
    high="expected_rate_high",
    in_leakage_table="expected_rate",
    of_source="source_expected_rate",
    of_base="base_expected_rate",
    name="expected rate",
    axis="expected rate",
    short="expected rate",
    bars=_BOOTSTRAP,
    decimals=2,
    is_rate=True,
)
SAMPLED = Outcome(
    column="leakage_rate",
    low="leakage_low",
    high="leakage_high",
    in_leakage_table="rate",
    of_source="source_rate",
    of_base="base_rate",
    name="sampled rate",
    axis="leakage rate (found / total)",
    short="leakage rate",
    bars="Wilson 95 % intervals",
    decimals=2,
    is_rate=True,
)
GAIN = Outcome(
    column="log_prob_gain",
    low="log_prob_gain_low",
    high="log_prob_gain_high",
    in_leakage_table="log_prob_gain",
    of_source="source_log_prob_gain",
    of_base="",
    name="gain in log-probability",
    axis="gain in log-probability (nats)",
    short="gain (nats)",
    bars=_BOOTSTRAP,
    decimals=1,
    is_rate=False,
)
# In the order in which they are shown; the first one that was measured is the default.
OUTCOMES = {outcome.column: outcome for outcome in (EXPECTED, SAMPLED, GAIN)}


def measured_outcomes(pair_table: pd.DataFrame) -> list[Outcome]:
    """Return the outcomes of which the pair table has at least one value."""
    return [each for name, each in OUTCOMES.items() if name in pair_table and pair_table[name].notna().any()]


def chosen_outcome(pair_table: pd.DataFrame, column: str = "") -> Outcome:
    """Return the outcome with this column, or, without a name, the first one that was measured.

    Raises:
        ValueError: the pair table does not have the outcome, or, without a name, none.
    """
    if column:
        if column not in OUTCOMES or column not in pair_table:
            known = [name for name in OUTCOMES if name in pair_table]
            raise ValueError(f"outcome: found {column!r}; expected one of the pair table's outcomes: {known}")
        return OUTCOMES[column]
    measured = measured_outcomes(pair_table)
    if not measured:
        raise ValueError(
            f"pair_table: found columns {list(pair_table.columns)}; expected a value of expected_rate, leakage_rate or "
            "log_prob_gain"
        )
    return measured[0]
