"""Contents of the leakage heatmap's cells, from the leakage table."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from persona_assets.presentation.layout.correlation import numbers, p_text
from persona_assets.presentation.layout.outcomes import OUTCOMES, SAMPLED, Outcome
from persona_assets.presentation.summaries.leakage_headline import base_counts, pooled, source_counts


class Cell(NamedTuple):
    """A cell: its value, its text, a shorter text for narrow cells, and whether the target was a trained negative."""

    value: float
    text: str
    short: str
    is_negative: bool = False


Dyad = tuple[str, str]


def outcome_of_leakage(leakage_table: pd.DataFrame, column: str = "") -> Outcome:
    """Return the outcome with this column of the pair table, or the first one that the leakage table has.

    Raises:
        ValueError: the leakage table does not have the outcome, or, without a name, none.
    """
    known = [
        outcome
        for outcome in OUTCOMES.values()
        if outcome.in_leakage_table in leakage_table and leakage_table[outcome.in_leakage_table].notna().any()
    ]
    for outcome in known:
        if column in ("", outcome.column):
            return outcome
    raise ValueError(f"leakage_table: found the outcomes {[each.column for each in known]}; expected {column or 'one'}")


def leakage_cells(leakage_table: pd.DataFrame, outcome: Outcome) -> dict[Dyad, Cell]:
    """Return the cell of every dyad, and of every source on itself, where the outcome was measured.

    Args:
        leakage_table: one row per dyad: `source`, `target`, the outcome's columns (of a sampled rate, `found` and
            `total`), those of the source on itself, and optionally `trained_negative`.
    """
    if outcome is SAMPLED:
        return _counts(leakage_table)
    values = numbers(leakage_table[outcome.in_leakage_table])
    cells = {
        (str(source), str(target)): _valued(value, outcome, negative)
        for source, target, value, negative in zip(
            leakage_table["source"], leakage_table["target"], values, trained_negatives(leakage_table), strict=True
        )
        if np.isfinite(value)
    }
    if outcome.of_source in leakage_table:
        own = leakage_table.drop_duplicates("source").dropna(subset=outcome.of_source)
        for source, value in zip(own["source"], own[outcome.of_source], strict=True):
            cells[str(source), str(source)] = _valued(float(value), outcome)
    return cells


def trained_negatives(leakage_table: pd.DataFrame) -> list[bool]:
    """Return for every row whether the target is known to be a trained negative of the source."""
    if "trained_negative" not in leakage_table:
        return [False] * len(leakage_table)
    return [value is True or value is np.True_ for value in leakage_table["trained_negative"].astype(object)]


def negatives_known(leakage_table: pd.DataFrame) -> bool:
    """Return whether the table says of any dyad if the target was a trained negative."""
    return "trained_negative" in leakage_table and bool(leakage_table["trained_negative"].notna().any())


def _counts(leakage_table: pd.DataFrame) -> dict[Dyad, Cell]:
    negative = dict(zip(_dyads(leakage_table), trained_negatives(leakage_table), strict=True))
    counted = leakage_table.dropna(subset=["found", "total"])
    counts = {
        dyad: (int(found), int(total))
        for dyad, found, total in zip(_dyads(counted), counted["found"], counted["total"], strict=True)
    }
    counts |= {(source, source): count for source, count in source_counts(leakage_table).items()}
    return {
        dyad: Cell(
            found / total if total else float("nan"),
            f"{found}/{total}",
            f"{100 * found / total:.0f}" if total else "–",
            negative.get(dyad, False),
        )
        for dyad, (found, total) in counts.items()
    }


def _dyads(table: pd.DataFrame) -> list[Dyad]:
    return [(str(source), str(target)) for source, target in zip(table["source"], table["target"], strict=True)]


def _valued(value: float, outcome: Outcome, is_negative: bool = False) -> Cell:
    text = f"{value:.{outcome.decimals}f}".replace("-", "−")
    short = f"{100 * value:.0f}" if outcome.is_rate else f"{value:.0f}".replace("-", "−")
    return Cell(value, text, short, is_negative)


def base_text(leakage_table: pd.DataFrame, outcome: Outcome = SAMPLED) -> str:
    """Describe the outcome before training: counts pooled over all targets, or the highest expected rate."""
    if outcome is SAMPLED:
        base = base_counts(leakage_table)
        return "base {}/{} before training".format(*pooled(base.values())) if base else "base rate not measured"
    if not outcome.of_base:
        return "0 nats: as before training"
    known = leakage_table[outcome.of_base].dropna() if outcome.of_base in leakage_table else pd.Series(dtype=float)
    return f"base at most {p_text(float(known.max()))} before training" if len(known) else "base rate not measured"


def texts_of(cells: Mapping[Dyad, Cell], is_short: bool) -> dict[Dyad, str]:
    """Return the text of every cell."""
    return {dyad: cell.short if is_short else cell.text for dyad, cell in cells.items()}
