"""What a reader wants to know of leakage first, counted from the tables."""

from collections.abc import Iterable
from typing import TypedDict

import pandas as pd

from persona_assets.presentation.layout.correlation import numbers, spearman
from persona_assets.presentation.layout.pairs import cosine_columns

# Found and total.
Count = tuple[int, int]


class LeakageHeadline(TypedDict):
    """Source rates and base rate as (found, total), and Spearman's ρ of leakage with each predictor as (ρ, n).

    ρ is the iid figure over dyads, NaN where it is undefined; a source whose own rate was not counted is left out.
    """

    source_rates: dict[str, Count]
    spearman: dict[str, tuple[float, int]]
    base: Count | None


def leakage_headline(pair_table: pd.DataFrame, leakage_table: pd.DataFrame) -> LeakageHeadline:
    """How often each source shows its own marker, and how leakage goes with JS and with every cosine.

    Args:
        pair_table: one row a dyad: `source`, `target`, `leakage_rate`, `js` and cosines; rows without a rate are left
            out, missing cosines are left out of their ρ.
        leakage_table: one row a dyad: `source`, `target`, `source_found`, `source_total`, and, where the checkpoint was
            counted before training, the target's `base_found` and `base_total`.

    Raises:
        ValueError: the pair table holds no leakage, or a source or target has two different counts.
    """
    dyads = leakage_dyads(pair_table)
    predictors = ["js", *(cosine.column for cosine in cosine_columns(pair_table))]
    rates = numbers(dyads["leakage_rate"])
    base = base_counts(leakage_table)
    return LeakageHeadline(
        source_rates=source_counts(leakage_table),
        spearman={column: spearman(numbers(dyads[column]), rates) for column in predictors},
        base=pooled(base.values()) if base else None,
    )


def leakage_dyads(pair_table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the pair table in which leakage was measured, a source onto itself left out.

    Raises:
        ValueError: the table has no column `leakage_rate`.
    """
    if "leakage_rate" not in pair_table:
        raise ValueError(f"pair_table: found columns {list(pair_table.columns)}; expected leakage_rate")
    measured = pair_table["leakage_rate"].notna() & (pair_table["source"] != pair_table["target"])
    return pair_table[measured].reset_index(drop=True)


def source_counts(leakage_table: pd.DataFrame) -> dict[str, Count]:
    """How many of a source's own replies hold the marker, by source."""
    return _counts(leakage_table, "source", "source_found", "source_total")


def base_counts(leakage_table: pd.DataFrame) -> dict[str, Count]:
    """How many of a target's replies held the marker before anything was trained, by target; empty if not counted."""
    return _counts(leakage_table, "target", "base_found", "base_total")


def pooled(counts: Iterable[Count]) -> Count:
    """Counts added up: found of all, total of all."""
    found, total = zip(*counts, strict=True)
    return sum(found), sum(total)


def _counts(leakage_table: pd.DataFrame, of: str, found: str, total: str) -> dict[str, Count]:
    """Each persona's one count, which the table repeats on every dyad of that persona."""
    if not {found, total} <= set(leakage_table.columns):
        return {}
    counts: dict[str, Count] = {}
    for row in leakage_table.dropna(subset=[found, total]).to_dict("records"):
        name, count = str(row[of]), (int(row[found]), int(row[total]))
        if (before := counts.setdefault(name, count)) != count:
            raise ValueError(
                f"leakage_table: {of} {name}: {found} / {total} is {before[0]}/{before[1]} in one row and "
                f"{count[0]}/{count[1]} in another; expected one count a {of}"
            )
    return counts
