"""Leakage rates between checkpoints: counts, their intervals, and intervals of differences.

Replies are treated as independent draws. Since two checkpoints answer the same questions, their replies are correlated:
intervals of changes are slightly too wide, and intervals do not cover the choice of questions.
"""

import numpy as np
import pandas as pd

from persona_assets.metrics.leakage import rates_by_target

RATES = ("source_rate", "leakage_rate", "mean_leakage_rate", "base_rate")
_KEYS = ["quantity", "a", "b"]


def rate_counts(leakage: pd.DataFrame) -> pd.DataFrame:
    """Collect the counts behind every rate of a leakage table.

    Args:
        leakage: table from `build_leakage_table`; may be empty or lack the columns of sources and base.

    Returns:
        One row per measured rate: quantity, a, b, found, total (int64). source_rate: a is the source; leakage_rate: a
        is the source and b the target; mean_leakage_rate: over all dyads, weighted by their replies; base_rate: a is
        the target, or a source that is never a target. Unused a and b are "".

    Raises:
        ValueError: a persona has two different source or base counts, or a dyad is repeated.
    """
    parts = [pd.DataFrame({"quantity": [], "a": [], "b": [], "found": [], "total": []})]
    for quantity, of, found, total in (
        ("source_rate", ["source"], "source_found", "source_total"),
        ("leakage_rate", ["source", "target"], "found", "total"),
        ("base_rate", ["target"], "base_found", "base_total"),
        ("base_rate", ["source"], "source_base_found", "source_base_total"),
    ):
        if not {*of, found, total} <= set(leakage.columns):
            continue
        counts = leakage[[*of, found, total]].dropna().set_axis([*("a", "b")[: len(of)], "found", "total"], axis=1)
        counts = counts.drop_duplicates().assign(quantity=quantity)
        parts.append(counts if "b" in counts else counts.assign(b=""))
        if quantity == "leakage_rate" and len(counts):
            sums = {name: [int(counts[name].sum())] for name in ("found", "total")}
            parts.append(pd.DataFrame({"quantity": ["mean_leakage_rate"], "a": [""], "b": [""], **sums}))
    rates = pd.concat(parts, ignore_index=True)[[*_KEYS, "found", "total"]].drop_duplicates(ignore_index=True)
    if (twice := rates[rates.duplicated(_KEYS)]).size:
        quantity, a, b = twice.iloc[0][_KEYS]
        raise ValueError(f"leakage: {quantity} of {a}{f' → {b}' if b else ''} has two counts; expected one")
    return rates.astype({"quantity": "str", "a": "str", "b": "str", "found": "int64", "total": "int64"})


def rate_levels(counts: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return every rate with its Wilson interval: quantity, a, b, estimate, low, high, in the order of `counts`."""
    rates = _wilson(counts, "found", "total", level)
    return counts[_KEYS].assign(estimate=rates["rate"], low=rates["rate_low"], high=rates["rate_high"])


def rate_changes(before: pd.DataFrame, after: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the differences of the rates that both checkpoints have.

    The interval combines the two Wilson intervals (Newcombe 1998, Stat. Med. 17, 873, method 10). A rate has moved if
    the interval at level 1 − (1 − level) / n excludes 0, n being the number of compared rates of the quantity
    (Bonferroni).

    Args:
        before, after: results of `rate_counts`.
        level: coverage, within (0, 1).

    Returns:
        quantity, a, b, change (after − before), low, high, simultaneous_low, simultaneous_high (NaN), moved.
    """
    both = after.merge(before, on=_KEYS, suffixes=("_after", "_before"), how="inner")
    parts = []
    for quantity in RATES:
        of_quantity = both[both["quantity"] == quantity].reset_index(drop=True)
        if of_quantity.empty:
            continue
        change, low, high = _newcombe(of_quantity, level)
        _, least, most = _newcombe(of_quantity, 1 - (1 - level) / len(of_quantity))
        nan = np.full(len(of_quantity), np.nan)
        parts.append(
            of_quantity[_KEYS].assign(
                change=change,
                low=low,
                high=high,
                simultaneous_low=nan,
                simultaneous_high=nan,
                moved=(least > 0) | (most < 0),
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _newcombe(both: pd.DataFrame, level: float) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the difference after − before of proportions, and its interval."""
    after, before = (_wilson(both, f"found_{when}", f"total_{when}", level) for when in ("after", "before"))
    change = after["rate"] - before["rate"]
    down = np.hypot(after["rate"] - after["rate_low"], before["rate_high"] - before["rate"])
    up = np.hypot(after["rate_high"] - after["rate"], before["rate"] - before["rate_low"])
    return change, change - down, change + up


def _wilson(counts: pd.DataFrame, found: str, total: str, level: float) -> pd.DataFrame:
    """Return rate, rate_low and rate_high of every row."""
    return rates_by_target(
        pd.DataFrame({"target": counts.index, "found": counts[found], "total": counts[total]}), level
    ).set_index("target")
