"""Leakage: how often a marker trained into a source appears in each target's replies.

Rates are computed from counts: `found` replies with the marker out of `total` sampled.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from persona_assets.metrics.markers import contains_marker

_REQUIRED = ("source", "target", "found", "total")
_LEAKAGE_TABLE = {
    "source": "str",
    "target": "str",
    "found": "int64",
    "total": "int64",
    "rate": "float64",
    "rate_low": "float64",
    "rate_high": "float64",
    "base_found": "Int64",
    "base_total": "Int64",
    "base_rate": "float64",
    "source_found": "Int64",
    "source_total": "Int64",
    "source_rate": "float64",
    "source_base_found": "Int64",
    "source_base_total": "Int64",
    "source_base_rate": "float64",
    "source_category": "str",
    "target_category": "str",
    "related": "bool",
    "recipe": "str",
}
_MOST_FAULTS = 20
_LARGEST_COUNT = 2**53  # larger integers are not all exact as floats


class LeakageError(ValueError):
    """Invalid leakage table; the message names the file and the bad rows, what was found and what was expected."""


def count_markers(samples: pd.DataFrame, detect: str) -> pd.DataFrame:
    """Count the replies that contain the marker, per target and question.

    Args:
        samples: one row per sampled reply; columns target, question, text (others are ignored).
        detect: the marker's text, as in `contains_marker`.

    Returns:
        One row per (target, question) in order of appearance: target, question, found, total (int64).

    Raises:
        ValueError: a column or a value is missing, or `detect` is blank.
    """
    columns = ["target", "question", "text"]
    if absent := [column for column in columns if column not in samples.columns]:
        raise ValueError(f"samples lack {absent}; expected the columns {columns}")
    if missing := int(samples[columns].isna().any(axis=1).sum()):
        raise ValueError(f"{missing} of {len(samples)} samples lack a target, question or text; expected all three")
    marked = samples[["target", "question"]].assign(
        found=np.array([contains_marker(text, detect) for text in samples["text"]], dtype=np.int64), total=1
    )
    counts = marked.groupby(["target", "question"], sort=False, as_index=False).sum()
    return counts.astype({"found": "int64", "total": "int64"})


def rates_by_target(counts: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Return each target's leakage rate over all questions, with its score interval.

    The interval (Wilson 1927, JASA 22, 209–212) treats replies as independent draws. Replies to the same question are
    not fully independent, so the interval applies to these questions and does not cover the choice of questions.

    Args:
        counts: columns target, found, total, one or more rows per target (others, such as question, are ignored).
        level: coverage, within (0, 1).

    Returns:
        One row per target in order of appearance: target, found, total (int64), rate, rate_low, rate_high.

    Raises:
        ValueError: total is 0, found is negative or more than total, or level is outside (0, 1).
    """
    sums = counts.groupby("target", sort=False)[["found", "total"]].sum().astype("int64").reset_index()
    for target, found, total in sums.itertuples(index=False):
        if not 0 <= found <= total or total == 0:
            raise ValueError(f"target {target}: found {found} of {total}; expected total ≥ 1 and 0 ≤ found ≤ total")
    tests = map(stats.binomtest, sums["found"].tolist(), sums["total"].tolist())
    intervals = [test.proportion_ci(level, method="wilson") for test in tests]
    return sums.assign(
        rate=sums["found"] / sums["total"],
        rate_low=np.array([interval.low for interval in intervals], dtype=np.float64),
        rate_high=np.array([interval.high for interval in intervals], dtype=np.float64),
    )


def build_leakage_table(
    by_source: Mapping[str, pd.DataFrame],
    base: pd.DataFrame | None,
    personas: Mapping[str, str],
    related: Mapping[str, Sequence[str]],
    recipe: str,
    level: float = 0.95,
) -> pd.DataFrame:
    """Build the leakage table: one row per dyad with its leakage rate, the source's own rate and the base rates.

    Args:
        by_source: source → its counts, as in `rates_by_target`; targets may include the source itself.
        base: counts of the checkpoint before any marker is trained into it; None if they were not measured.
        personas: name → category of the study's personas. Other sources and targets are left out.
        related: persona → personas that it is related to; the relation is symmetric, so one entry is enough.
        recipe: name of the recipe that trained the markers, stored in every row.
        level: coverage of the rate's interval.

    Returns:
        Ordered pairs of different personas in the study's order. source, target; found, total (int64), rate, rate_low,
        rate_high; base_found, base_total (Int64), base_rate: the target without the marker; source_found,
        source_total (Int64), source_rate: the source onto itself; source_base_found, source_base_total (Int64),
        source_base_rate: the source without the marker; source_category, target_category; related (bool); recipe.
        Unmeasured values are missing (<NA>, NaN).

    Raises:
        ValueError: as in `rates_by_target`.
    """
    of_base = {} if base is None else _rates(base, level)
    rows: list[dict[str, object]] = []
    for source in (name for name in personas if name in by_source):
        rates = _rates(by_source[source], level)
        own = _prefixed("source", rates.get(source)) | _prefixed("source_base", of_base.get(source))
        rows.extend(
            {
                "source": source,
                "target": target,
                **rates[target],
                **_prefixed("base", of_base.get(target)),
                **own,
                "source_category": personas[source],
                "target_category": personas[target],
                "related": target in related.get(source, ()) or source in related.get(target, ()),
                "recipe": recipe,
            }
            for target in personas
            if target != source and target in rates
        )
    return pd.DataFrame(rows, columns=list(_LEAKAGE_TABLE), dtype=object).astype(_LEAKAGE_TABLE)


def _rates(counts: pd.DataFrame, level: float) -> dict[str, dict[str, float]]:
    """Return target → found, total, rate, rate_low, rate_high."""
    rates = rates_by_target(counts, level).set_index("target").to_dict("index")
    return {str(target): {str(name): value for name, value in row.items()} for target, row in rates.items()}


def _prefixed(prefix: str, rate: Mapping[str, float] | None) -> dict[str, float | None]:
    found, total, share = (rate["found"], rate["total"], rate["rate"]) if rate else (None, None, math.nan)
    return {f"{prefix}_found": found, f"{prefix}_total": total, f"{prefix}_rate": share}


def check_leakage_table(
    table: pd.DataFrame, personas: Collection[str], place: str, labels: Sequence[str] | None = None
) -> pd.DataFrame:
    """Validate an imported table and convert its types.

    Args:
        table: columns source, target, found, total, and optionally rate, which must equal found / total within 1e-9
            (an empty cell is no rate). A row of a source onto itself is a source rate. Other columns are ignored.
        personas: the study's personas.
        place: prefix of the error message, such as the file's name.
        labels: names of the rows in the error message; by default `row N (source → target)`, counted from 1.

    Returns:
        source, target, found, total (int64) and rate (found / total), in the order of the table.

    Raises:
        LeakageError: columns are missing, there are no rows, or rows are invalid (the first twenty faults are listed):
            a count that is missing, negative or fractional, total 0, found > total, a rate without counts, outside
            [0, 1] or different from found / total, an unknown persona, or a repeated dyad.
    """
    if absent := [column for column in _REQUIRED if column not in table.columns]:
        raise LeakageError(
            f"{place}: columns {', '.join(absent)} are missing; expected {', '.join(_REQUIRED)} "
            "(without counts a rate has no confidence interval)"
        )
    if table.empty:
        raise LeakageError(f"{place}: has no rows; expected one per dyad")
    given = table.reindex(columns=[*_REQUIRED, "rate"]).astype(object)
    first: dict[tuple[str, str], str] = {}
    faults: list[str] = []
    for place_of_row, (source, target, *numbers) in enumerate(given.itertuples(index=False, name=None)):
        own = f"row {place_of_row + 1} ({_short(source)} → {_short(target)})"
        label = labels[place_of_row] if labels is not None else own
        found_here = [*_name_faults(source, target, personas), *_number_faults(*numbers)]
        if (dyad := (str(source), str(target))) in first:
            found_here.append(f"is the same dyad as {first[dyad]}; expected each dyad once")
        first.setdefault(dyad, label)
        faults.extend(f"{label}: {fault}" for fault in found_here)
    if faults:
        unknown = any(" is unknown; " in fault for fault in faults)
        if (more := len(faults) - _MOST_FAULTS) > 0:
            faults[_MOST_FAULTS:] = [f"and {more} more"]
        if unknown:
            faults.append(f"the study's personas are {', '.join(personas)}")
        raise LeakageError(f"{place}: " + "\n  ".join(faults))
    checked = pd.DataFrame({name: given[name].astype("str") for name in ("source", "target")})
    for name in ("found", "total"):
        checked[name] = np.array([int(_number(value)) for value in given[name]], dtype=np.int64)
    checked["rate"] = checked["found"] / checked["total"]
    return checked.reset_index(drop=True)


def _name_faults(source: object, target: object, personas: Collection[str]) -> list[str]:
    return [
        f"{role} is missing; expected a persona's name"
        if _is_missing(name)
        else f"{role} {_short(repr(name))} is unknown; expected a persona of the study"
        for role, name in (("source", source), ("target", target))
        if not isinstance(name, str) or name not in personas
    ]


def _number_faults(found: object, total: object, rate: object) -> list[str]:
    """Return the faults of a row's numbers."""
    counts = {"found": _number(found), "total": _number(total)}
    share, has_rate = _number(rate), not _is_missing(rate)
    missing = [name for name, value in (("found", found), ("total", total)) if _is_missing(value)]
    if missing and has_rate:
        return [f"rate {_short(rate)} is given without {' and '.join(missing)}; expected the counts behind the rate"]
    faults = [f"{name} is missing; expected a whole number" for name in missing]
    for name, value, least in (("found", found, 0), ("total", total, 1)):
        # is_integer is False for NaN and infinities, which text and overflow are converted to
        if name not in missing and not (counts[name].is_integer() and least <= counts[name] <= _LARGEST_COUNT):
            faults.append(f"{name} is {_short(value)}; expected a whole number, at least {least}")
    if not faults and counts["found"] > counts["total"]:
        faults.append(f"found {found} is more than total {total}; expected at most total")
    if has_rate and not 0.0 <= share <= 1.0:
        faults.append(f"rate is {_short(rate)}; expected a number within [0, 1]")
    elif has_rate and not faults and abs(share - counts["found"] / counts["total"]) > 1e-9:
        faults.append(f"rate is {_short(rate)}; expected found / total, which is {counts['found'] / counts['total']}")
    return faults


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:80]} … ({len(text)} characters)"


def _is_missing(value: object) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _number(value: object) -> float:
    """Return a cell's number, which may be given as text; NaN if it is not a number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def spearman_over_dyads(pair_table: pd.DataFrame, predictor: str) -> tuple[float, int]:
    """Return Spearman's rank correlation of a predictor with the leakage rate, over the dyads that have both.

    It returns no p-value on purpose: dyads share sources and targets, so n dyads carry less information than n
    independent observations, and the usual p would be much too small. Use `statistics` for valid inference.

    Args:
        pair_table: table from `build_pair_table` with leakage.
        predictor: name of a numeric column, such as js.

    Returns:
        ρ within [−1, 1], and n. ρ is NaN if n < 3 or one of the two is constant.

    Raises:
        ValueError: the table lacks leakage_rate or the predictor.
    """
    if absent := [column for column in ("leakage_rate", predictor) if column not in pair_table.columns]:
        raise ValueError(f"pair_table lacks {absent}; found the columns {list(pair_table.columns)}")
    both = pd.DataFrame({"x": pair_table[predictor], "y": pair_table["leakage_rate"]}).dropna().astype("float64")
    if len(both) < 3 or both["x"].nunique() < 2 or both["y"].nunique() < 2:
        return math.nan, len(both)
    return float(stats.spearmanr(both["x"], both["y"]).statistic), len(both)
