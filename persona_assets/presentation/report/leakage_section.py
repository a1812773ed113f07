"""Leakage section of the report: every outcome side by side, a table of dyads with predictors, and sample replies."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from persona_assets.presentation.figures.leakage_cells import negatives_known, trained_negatives
from persona_assets.presentation.figures.leakage_heatmap import recipe_names
from persona_assets.presentation.layout.correlation import numbers, p_text, spearman
from persona_assets.presentation.layout.outcomes import EXPECTED, SAMPLED, Outcome, chosen_outcome, measured_outcomes
from persona_assets.presentation.layout.pairs import CosineColumn, cosine_columns
from persona_assets.presentation.summaries.leakage_headline import (
    Count,
    base_counts,
    leakage_dyads,
    pooled,
    source_counts,
)

_REPLIES = 2


def leakage_section(
    pair_table: pd.DataFrame, leakage_table: pd.DataFrame, samples: pd.DataFrame | None, outcome: str = ""
) -> dict[str, Any]:
    """Return the variables of the leakage template.

    Args:
        pair_table: one row per dyad: `source`, `target`, `related`, JS, cosines, and every measured outcome with its
            interval (`layout.outcomes`), of a sampled rate also `leakage_found` and `leakage_total`.
        leakage_table: one row per dyad, as in `leakage_cells`, with `recipe`.
        samples: one row per sampled reply: `source`, `target`, `question`, `text`, `found` (bool). Untrusted.
        outcome: column of the outcome that the verdict is about; by default the first one that was measured.
    """
    chosen = chosen_outcome(pair_table, outcome)
    outcomes = [chosen, *(other for other in measured_outcomes(pair_table) if other != chosen)]
    dyads = leakage_dyads(pair_table)
    sources = list(dict.fromkeys(str(source) for source in dyads["source"]))
    is_sampled, base = SAMPLED in outcomes, base_counts(leakage_table)
    return {
        "recipe": recipe_names(leakage_table),
        "outcome": chosen,
        "outcomes": outcomes,
        "expected": EXPECTED if EXPECTED in outcomes else None,
        "sampled": SAMPLED if is_sampled else None,
        "seeds": _largest(leakage_table, "seeds"),
        "replies_scored": _largest(leakage_table, "replies"),
        "base": _with_interval(pooled(base.values())) if base else None,
        "base_targets": len(base),
        "base_expected": _base_expected(leakage_table),
        "everywhere": _with_interval(_pooled_rows(dyads)) if is_sampled else None,
        "mean": float(np.nanmean(numbers(dyads[chosen.column]))),
        "sources": _sources(leakage_table, dyads, outcomes, sources, is_sampled),
        "correlations": _correlations(dyads, outcomes, cosine_columns(pair_table)),
        "negatives": _negatives(leakage_table),
        "dyads": _strongest_first(dyads, chosen, sources),
        "replies": {} if samples is None else {name: _replies(samples, name) for name in sources},
    }


def _with_interval(count: Count | None) -> dict[str, Any] | None:
    """Return a count with its rate and Wilson 95 % interval."""
    if count is None or not count[1]:
        return None
    low, high = binomtest(*count).proportion_ci(method="wilson")
    return {"found": count[0], "total": count[1], "rate": count[0] / count[1], "low": low, "high": high}


def _pooled_rows(dyads: pd.DataFrame) -> Count:
    return int(np.nansum(numbers(dyads["leakage_found"]))), int(np.nansum(numbers(dyads["leakage_total"])))


def _largest(table: pd.DataFrame, column: str) -> int:
    """Return the largest value of a column of counts; 0 if it is missing."""
    return int(table[column].max()) if column in table and table[column].notna().any() else 0


def _base_expected(leakage_table: pd.DataFrame) -> str:
    """Return the highest expected rate before training as text; "" if it was not measured."""
    if EXPECTED.of_base not in leakage_table or leakage_table[EXPECTED.of_base].isna().all():
        return ""
    return p_text(float(leakage_table[EXPECTED.of_base].max()))


def _sources(
    leakage_table: pd.DataFrame,
    dyads: pd.DataFrame,
    outcomes: Sequence[Outcome],
    sources: Sequence[str],
    is_sampled: bool,
) -> list[dict[str, Any]]:
    """Return each source with its values on itself and its means over the others, by outcome, and its counts."""
    counts = source_counts(leakage_table)
    rows = []
    for name in sources:
        others = dyads[dyads["source"] == name]
        own = leakage_table[leakage_table["source"] == name].iloc[0]
        rows.append(
            {
                "name": name,
                "own": _with_interval(counts.get(name)),
                "others": _with_interval(_pooled_rows(others)) if is_sampled else None,
                "own_values": {each.column: _value(own, each.of_source) for each in outcomes},
                "other_values": {each.column: float(np.nanmean(numbers(others[each.column]))) for each in outcomes},
            }
        )
    return rows


def _value(row: pd.Series, column: str) -> float:
    return float(row[column]) if column in row and pd.notna(row[column]) else math.nan


def _correlations(
    dyads: pd.DataFrame, outcomes: Sequence[Outcome], cosines: Sequence[CosineColumn]
) -> list[dict[str, Any]]:
    """Return ρ of every outcome with JS and every cosine; n if all outcomes have the same dyads."""
    rows = []
    for cosine in (None, *cosines):
        x = numbers(dyads[cosine.column if cosine else "js"])
        found = [spearman(x, numbers(dyads[outcome.column])) for outcome in outcomes]
        sizes = {n for _, n in found}
        rows.append(
            {
                "cosine": cosine,
                "rhos": [rho for rho, _ in found],
                "n": sizes.pop() if len(sizes) == 1 else " / ".join(str(n) for _, n in found),
                "undefined": any(math.isnan(rho) for rho, _ in found),
            }
        )
    return rows


def _negatives(leakage_table: pd.DataFrame) -> dict[str, Any]:
    """Return whether trained negatives are known, and how many dyads have one."""
    flags = trained_negatives(leakage_table)
    return {"known": negatives_known(leakage_table), "dyads": sum(flags), "of": len(flags)}


def _strongest_first(dyads: pd.DataFrame, outcome: Outcome, sources: Sequence[str]) -> list[dict[Hashable, Any]]:
    """Return the dyads grouped by source, the target with the highest outcome first."""
    place = dyads["source"].map({source: number for number, source in enumerate(sources)})
    ranked = dyads.assign(_place=place, _value=-numbers(dyads[outcome.column])).sort_values(["_place", "_value"])
    begin = ("js", "cosine_", "leakage_", "expected_", "log_prob_", "negative_share")
    numeric = [c for c in ranked.columns if str(c).startswith(begin)]
    return ranked.assign(**{str(column): numbers(ranked[column]) for column in numeric}).to_dict("records")


def _replies(samples: pd.DataFrame, source: str) -> dict[bool, list[dict[Hashable, Any]]]:
    """Return two replies with the marker and two without: the source's own first one and another persona's."""
    of_source = samples[samples["source"] == source]
    replies = {}
    for found in (True, False):
        rows = of_source[of_source["found"].astype(bool) == found]
        own = (rows["target"] == source).to_numpy(dtype=bool)
        one_each = pd.concat([rows[own].head(1), rows[~own].head(1), rows[own].iloc[1:], rows[~own].iloc[1:]])
        replies[found] = one_each.head(_REPLIES).to_dict("records")
    return replies
