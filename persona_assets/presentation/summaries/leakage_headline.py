"""Headline numbers of leakage, counted from the tables."""

from collections.abc import Iterable
from typing import TypedDict

import pandas as pd

from persona_assets.presentation.layout.correlation import numbers, spearman
from persona_assets.presentation.layout.outcomes import OUTCOMES, chosen_outcome
from persona_assets.presentation.layout.pairs import cosine_columns

# Found and total.
Count = tuple[int, int]


class LeakageHeadline(TypedDict):
    """Source rates and base rate as (found, total), and Spearman's ρ of leakage with each predictor as (ρ, n).

    ρ treats dyads as independent and is NaN if undefined. Sources without a counted source rate are left out.
    """

    source_rates: dict[str, Count]
    spearman: dict[str, tuple[float, int]]
    base: Count | None


def leakage_headline(pair_table: pd.DataFrame, leakage_table: pd.DataFrame, outcome: str = "") -> LeakageHeadline:
    """Return source rates, the base rate, and the correlation of leakage with JS and every cosine.

    Args:
        pair_table: one row per dyad: `source`, `target`, the outcome, `js` and cosines. Rows without the outcome are
            skipped; dyads without a cosine are left out of its ρ.
        leakage_table: one row per dyad: `source`, `target`, `source_found`, `source_total` and, if the base model was
            counted, the target's `base_found` and `base_total`.
        outcome: its column in the pair table; by default the first one that was measured.

    Raises:
        ValueError: the pair table has no leakage, or a source or target has two different counts.
    """
    chosen = chosen_outcome(pair_table, outcome)
    dyads = leakage_dyads(pair_table, chosen.column)
    predictors = ["js", *(cosine.column for cosine in cosine_columns(pair_table))]
    values = numbers(dyads[chosen.column])
    base = base_counts(leakage_table)
    return LeakageHeadline(
        source_rates=source_counts(leakage_table),
        spearman={column: spearman(numbers(dyads[column]), values) for column in predictors},
        base=pooled(base.values()) if base else None,
    )


def leakage_dyads(pair_table: pd.DataFrame, outcome: str = "") -> pd.DataFrame:
    """Return the rows of the pair table with an outcome, without sources on themselves.

    Args:
        outcome: its column; by default rows with any outcome are returned.

    Raises:
        ValueError: the table has no outcome.
    """
    columns = [outcome] if outcome else [each.column for each in OUTCOMES.values() if each.column in pair_table]
    if not columns or outcome not in ("", *pair_table.columns):
        expected = outcome or " or ".join(OUTCOMES)
        raise ValueError(f"pair_table: found columns {list(pair_table.columns)}; expected {expected}")
    measured = pair_table[columns].notna().any(axis=1) & (pair_table["source"] != pair_table["target"])
    return pair_table[measured].reset_index(drop=True)


def source_counts(leakage_table: pd.DataFrame) -> dict[str, Count]:
    """Return, by source, how many of its own replies contain the marker."""
    return _counts(leakage_table, "source", "source_found", "source_total")


def base_counts(leakage_table: pd.DataFrame) -> dict[str, Count]:
    """Return, by target, how many replies contained the marker before training; empty if not counted."""
    return _counts(leakage_table, "target", "base_found", "base_total")


def pooled(counts: Iterable[Count]) -> Count:
    """Add up counts."""
    found, total = zip(*counts, strict=True)
    return sum(found), sum(total)


def _counts(leakage_table: pd.DataFrame, of: str, found: str, total: str) -> dict[str, Count]:
    """Return each persona's count, which the table repeats in every dyad of that persona."""
    if not {found, total} <= set(leakage_table.columns):
        return {}
    counts: dict[str, Count] = {}
    for row in leakage_table.dropna(subset=[found, total]).to_dict("records"):
        name, count = str(row[of]), (int(row[found]), int(row[total]))
        if (before := counts.setdefault(name, count)) != count:
            raise ValueError(
                f"leakage_table: {of} {name}: {found} / {total} is {before[0]}/{before[1]} in one row and "
                f"{count[0]}/{count[1]} in another; expected one count per {of}"
            )
    return counts
