"""Changes of JS, cosine and leakage between checkpoints, with intervals that account for the choice of questions.

All checkpoints answer the same questions, so the bootstrap resamples per-question changes. The intervals cover the
choice of questions only; they do not cover variation between training runs.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from persona_assets.metrics.drift_quantities import (
    Quantity,
    changes_by_question,
    cosine_quantities,
    is_symmetric,
    js_quantity,
    persona_names,
    require_same_populations,
)
from persona_assets.metrics.drift_questions import (
    Floats,
    distance,
    distance_without_questions,
    percentile_interval,
    question_weights,
    simultaneous_half_width,
)
from persona_assets.metrics.drift_rates import rate_changes, rate_counts, rate_levels

_CHECKPOINTS = ("checkpoint", "series", "step", "previous")
_TEXT, _FLOAT = "str", "float64"
_LEVELS = {
    "checkpoint": _TEXT,
    "series": _TEXT,
    "step": _FLOAT,
    **dict.fromkeys(("quantity", "a", "b"), _TEXT),
    **dict.fromkeys(("estimate", "low", "high"), _FLOAT),
}
_CHANGES = {
    **dict.fromkeys(("checkpoint", "previous", "quantity", "a", "b"), _TEXT),
    **dict.fromkeys(("change", "low", "high", "simultaneous_low", "simultaneous_high"), _FLOAT),
    "moved": "bool",
}
_DISTANCES = {
    **dict.fromkeys(("checkpoint", "previous", "quantity"), _TEXT),
    **dict.fromkeys(("pairs", "questions"), "int64"),
    **dict.fromkeys(("rms_change", "noise", "excess", "rank_correlation", "p", "smallest_p"), _FLOAT),
    "exact": "bool",
}


class Drift(NamedTuple):
    """The three tables of `measure_drift`.

    Attributes:
        levels: one row per checkpoint, quantity and pair (or rate): checkpoint, series, step, quantity, a, b, estimate,
            low, high. quantity is js (nats), cosine_<population>_layer<N>, source_rate (a is the source), leakage_rate
            (a is the source, b the target), mean_leakage_rate (over dyads, weighted by their replies; a and b are ""),
            base_rate (a is the target, before any marker is trained in); for the first two, a and b are the pair.
            Intervals are percentile bootstrap over questions, or Wilson for rates.
        changes: one row per checkpoint with a previous one, quantity and pair (or rate): checkpoint, previous,
            quantity, a, b, change, low, high (pointwise coverage), simultaneous_low, simultaneous_high (joint coverage
            over all pairs of that quantity and step; NaN for rates), moved (the simultaneous interval excludes 0; for
            rates, the Bonferroni-corrected interval does).
        distances: one row per checkpoint with a previous one and quantity (JS and cosines): checkpoint, previous,
            quantity, pairs, questions, rms_change, noise, excess, rank_correlation (Spearman's, between the pairs of
            the two matrices; NaN below 3 pairs or if one matrix is constant), p, smallest_p, exact; see `Distance`.
    """

    levels: pd.DataFrame
    changes: pd.DataFrame
    distances: pd.DataFrame


def measure_drift(
    checkpoints: pd.DataFrame,
    js: Mapping[str, xr.DataArray],
    cosine: Mapping[str, xr.Dataset],
    leakage: Mapping[str, pd.DataFrame],
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Drift:
    """Compute levels, changes and distances of JS, cosines and leakage along every series of checkpoints.

    Args:
        checkpoints: one row per checkpoint in display order: checkpoint, series ("" if none), step (NaN if unknown),
            previous (the checkpoint that it is compared with; missing for the first of a series).
        js: checkpoint → js_by_question (question, persona, other), in nats, for all checkpoints.
        cosine: checkpoint → `cosine_dataset`; may lack checkpoints. Cosines without cosine_by_question get no interval.
        leakage: checkpoint → `build_leakage_table`; may lack checkpoints.
        resamples, seed, level: settings of the bootstrap. Intervals of levels equal those of
            `bootstrap_over_questions`.

    Returns:
        Three tables. Values that cannot be computed, for example with a single question, are NaN, and `moved` is then
        False.

    Raises:
        ValueError: a column is missing; a checkpoint is repeated, has no JS, or is compared with an unknown one; two
            compared checkpoints differ in personas, questions or centring populations; resamples < 1; or level is
            outside (0, 1).
    """
    _require_comparable(checkpoints, js, resamples, level)
    rows = checkpoints.to_dict("records")
    names = [str(row["checkpoint"]) for row in rows]
    symmetric = [is_symmetric(js[name], _of_js(name)) for name in names]
    order = list(dict.fromkeys(persona for name in names for persona in persona_names(js[name])))
    quantities = {name: _quantities(name, js[name], cosine.get(name), order, not all(symmetric)) for name in names}
    counts = {name: rate_counts(leakage.get(name, pd.DataFrame())) for name in names}
    levels, changes, distances = list[pd.DataFrame](), list[pd.DataFrame](), list[dict[str, Any]]()
    for row, name in zip(rows, names, strict=True):
        about = {"checkpoint": name, "series": row["series"], "step": row["step"]}
        for quantity, values in quantities[name].items():
            levels.append(_levels(quantity, values, resamples, seed, level).assign(**about))
        levels.append(rate_levels(counts[name], level).assign(**about))
        if pd.isna(row["previous"]):
            continue
        step = {"checkpoint": name, "previous": str(row["previous"])}
        if name in cosine and step["previous"] in cosine:
            attrs = cosine[step["previous"]].attrs, cosine[name].attrs
            require_same_populations(*attrs, f"{name}, compared with {step['previous']}")
        for quantity, after in quantities[name].items():
            before = quantities[step["previous"]].get(quantity)
            if before is None:
                continue
            place = f"{name}, compared with {step['previous']}: {quantity}"
            change, by_question = changes_by_question(before, after, place)
            table = _changes(quantity, after, change, by_question, resamples, seed, level)
            changes.append(table.assign(**step))
            found = distance(by_question, seed) if len(by_question) else distance_without_questions(change)
            rank = _spearman(before.estimate, after.estimate)
            distances.append({**step, "quantity": quantity, **asdict(found), "rank_correlation": rank})
        changes.append(rate_changes(counts[step["previous"]], counts[name], level).assign(**step))
    return Drift(_joined(levels, _LEVELS), _joined(changes, _CHANGES), _joined([pd.DataFrame(distances)], _DISTANCES))


def _require_comparable(
    checkpoints: pd.DataFrame, js: Mapping[str, xr.DataArray], resamples: int, level: float
) -> None:
    if absent := [column for column in _CHECKPOINTS if column not in checkpoints.columns]:
        raise ValueError(f"checkpoints lack {absent}; expected the columns {list(_CHECKPOINTS)}")
    names = [str(name) for name in checkpoints["checkpoint"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"checkpoints {twice} appear twice; expected each once")
    if without := [name for name in names if name not in js]:
        raise ValueError(f"checkpoints {without} have no JS; expected js_by_question of every checkpoint")
    for name, previous in zip(names, checkpoints["previous"], strict=True):
        if not pd.isna(previous) and str(previous) not in names:
            raise ValueError(f"checkpoint {name}: previous is {previous}; expected one of {names}, or a missing value")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; expected at least 1")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; expected a coverage within (0, 1), such as 0.95")


def _quantities(
    name: str, js: xr.DataArray, cosine: xr.Dataset | None, order: list[str], ordered: bool
) -> dict[str, Quantity]:
    of_js = {"js": js_quantity(js, _of_js(name), order, ordered)}
    return of_js if cosine is None else of_js | cosine_quantities(cosine, f"{name}: centroid_cosine", order)


def _of_js(checkpoint: str) -> str:
    return f"{checkpoint}: js_by_question"


def _levels(quantity: str, values: Quantity, resamples: int, seed: int, level: float) -> pd.DataFrame:
    low, high = np.full((2, len(values.pairs)), np.nan)
    if values.questions:
        weights = question_weights(len(values.questions), resamples, seed)
        low, high = percentile_interval(values.by_question, weights, level)
    return _named(quantity, values).assign(estimate=values.estimate, low=low, high=high)


def _changes(
    quantity: str, of: Quantity, change: Floats, by_question: Floats, resamples: int, seed: int, level: float
) -> pd.DataFrame:
    low, high, half = np.full((3, len(change)), np.nan)
    if len(by_question):
        weights = question_weights(len(by_question), resamples, seed)
        low, high = percentile_interval(by_question, weights, level)
        half = simultaneous_half_width(by_question, weights, level)
    return _named(quantity, of).assign(
        change=change,
        low=low,
        high=high,
        simultaneous_low=change - half,
        simultaneous_high=change + half,
        moved=np.abs(change) > half,
    )


def _named(quantity: str, values: Quantity) -> pd.DataFrame:
    return pd.DataFrame(
        {"quantity": quantity, "a": [first for first, _ in values.pairs], "b": [second for _, second in values.pairs]}
    )


def _spearman(before: Floats, after: Floats) -> float:
    both = np.isfinite(before) & np.isfinite(after)
    if both.sum() < 3 or np.ptp(before[both]) == 0 or np.ptp(after[both]) == 0:
        return float("nan")
    return float(stats.spearmanr(before[both], after[both]).statistic)


def _joined(parts: list[pd.DataFrame], columns: Mapping[str, str]) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    if not filled:
        return pd.DataFrame(columns=list(columns)).astype(dict(columns))
    return pd.concat(filled, ignore_index=True)[list(columns)].astype(dict(columns))
