"""Leakage section of the report: counts, a table of dyads with their predictors, and sample replies."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from persona_assets.presentation.figures.leakage_heatmap import recipe_names
from persona_assets.presentation.layout.correlation import numbers
from persona_assets.presentation.layout.pairs import cosine_columns
from persona_assets.presentation.summaries.leakage_headline import (
    Count,
    base_counts,
    leakage_dyads,
    leakage_headline,
)

_REPLIES = 2


def leakage_section(
    pair_table: pd.DataFrame, leakage_table: pd.DataFrame, samples: pd.DataFrame | None
) -> dict[str, Any]:
    """Return the variables of the leakage template.

    Args:
        pair_table, leakage_table: as in `leakage_headline`; the pair table also has `leakage_found`,
            `leakage_total`, `leakage_low`, `leakage_high`, `related`.
        samples: one row per sampled reply: `source`, `target`, `question`, `text`, `found` (bool). Untrusted.
    """
    found = leakage_headline(pair_table, leakage_table)
    dyads = leakage_dyads(pair_table)
    sources = list(dict.fromkeys(str(source) for source in dyads["source"]))
    labels = {cosine.column: cosine for cosine in cosine_columns(pair_table)}
    return {
        "recipe": recipe_names(leakage_table),
        "base": _with_interval(found["base"]),
        "base_targets": len(base_counts(leakage_table)),
        "everywhere": _with_interval(_pooled_rows(dyads)),
        "sources": [_source(name, dyads, found["source_rates"].get(name)) for name in sources],
        "correlations": [
            {"cosine": labels.get(column), "rho": rho, "n": n, "undefined": math.isnan(rho)}
            for column, (rho, n) in found["spearman"].items()
        ],
        "dyads": _strongest_first(dyads, sources),
        "replies": {} if samples is None else {name: _replies(samples, name) for name in sources},
    }


def _with_interval(count: Count | None) -> dict[str, Any] | None:
    """Return a count with its rate and Wilson 95 % interval."""
    if count is None or not count[1]:
        return None
    low, high = binomtest(*count).proportion_ci(method="wilson")
    return {"found": count[0], "total": count[1], "rate": count[0] / count[1], "low": low, "high": high}


def _pooled_rows(dyads: pd.DataFrame) -> Count:
    return int(numbers(dyads["leakage_found"]).sum()), int(numbers(dyads["leakage_total"]).sum())


def _source(name: str, dyads: pd.DataFrame, own: Count | None) -> dict[str, Any]:
    others = dyads[dyads["source"] == name]
    return {"name": name, "own": _with_interval(own), "others": _with_interval(_pooled_rows(others))}


def _strongest_first(dyads: pd.DataFrame, sources: Sequence[str]) -> list[dict[Hashable, Any]]:
    """Return the dyads grouped by source, the target with the highest rate first."""
    place = dyads["source"].map({source: number for number, source in enumerate(sources)})
    ranked = dyads.assign(_place=place, _rate=-numbers(dyads["leakage_rate"])).sort_values(["_place", "_rate"])
    numeric = [c for c in ranked.columns if str(c).startswith(("js", "cosine_", "leakage_"))]
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
