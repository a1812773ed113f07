"""Leakage: how often a marker trained into a source appears in each target's replies.

Sampled rates are computed from counts: `found` replies with the marker out of `total` sampled. Expected rates come from
log-probabilities (`expected_leakage`). The leakage table has both.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from persona_assets.metrics.expected_leakage import expected_rates
from persona_assets.metrics.markers import contains_marker

_LEAKAGE_TABLE = {
    "source": "str",
    "target": "str",
    "found": "Int64",
    "total": "Int64",
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
    "expected_rate": "float64",
    "expected_rate_low": "float64",
    "expected_rate_high": "float64",
    "base_expected_rate": "float64",
    "log_prob_gain": "float64",
    "log_prob_gain_low": "float64",
    "log_prob_gain_high": "float64",
    "source_expected_rate": "float64",
    "source_log_prob_gain": "float64",
    "seeds": "Int64",
    "replies": "Int64",
    "trained_negative": "boolean",
    "negative_share": "float64",
    "source_category": "str",
    "target_category": "str",
    "related": "bool",
    "recipe": "str",
}
# Measured for every target of a source, by `expected_rates`.
_EXPECTED = (
    *("expected_rate", "expected_rate_low", "expected_rate_high", "base_expected_rate"),
    *("log_prob_gain", "log_prob_gain_low", "log_prob_gain_high", "seeds", "replies"),
)
_SAMPLED = ("found", "total", "rate", "rate_low", "rate_high")


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
    by_source: Mapping[str, pd.DataFrame] | None,
    base: pd.DataFrame | None,
    personas: Mapping[str, str],
    related: Mapping[str, Sequence[str]],
    recipe: str,
    level: float = 0.95,
    *,
    log_probs: Mapping[str, pd.DataFrame] | None = None,
    negatives: Mapping[str, Mapping[str, float]] | None = None,
    resamples: int = 2000,
    random_seed: int = 0,
) -> pd.DataFrame:
    """Build the leakage table: one row per dyad with every measured outcome, the source's own, and those of the base.

    Args:
        by_source: source → its counts, as in `rates_by_target`; targets may include the source itself. None if nothing
            was sampled.
        base: counts of the checkpoint before any marker is trained into it; None if they were not measured.
        personas: name → category of the study's personas. Other sources and targets are left out.
        related: persona → personas that it is related to; the relation is symmetric, so one entry is enough.
        recipe: name of the recipe that trained the markers, stored in every row.
        level: coverage of all intervals.
        log_probs: source → its log-probabilities, as in `expected_rates`; targets may include the source itself.
        negatives: source → the shares of `negative_shares`; sources that it lacks are unknown.
        resamples, random_seed: of the bootstrap of `expected_rates`.

    Returns:
        Ordered pairs of different personas in the study's order. source, target; found, total (Int64), rate, rate_low,
        rate_high; base_found, base_total (Int64), base_rate: the target without the marker; source_found,
        source_total (Int64), source_rate: the source onto itself; source_base_found, source_base_total (Int64),
        source_base_rate: the source without the marker; the columns of `expected_rates`, with seeds and replies
        (Int64), and source_expected_rate, source_log_prob_gain: the source onto itself; trained_negative (boolean) and
        negative_share: whether the source's training set has unmarked replies of the target, and their share;
        source_category, target_category; related (bool); recipe. Unmeasured values are missing (<NA>, NaN).

    Raises:
        ValueError: as in `rates_by_target` and `expected_rates`; the latter names the source.
    """
    by_source, of_base = by_source or {}, {} if base is None else _rates(base, level)
    expected = {
        source: _expected(source, table, level, resamples, random_seed)
        for source, table in (log_probs or {}).items()
        if source in personas
    }
    rows: list[dict[str, object]] = []
    for source in (name for name in personas if name in by_source or name in expected):
        rates = _rates(by_source[source], level) if source in by_source else {}
        gains, shares = expected.get(source, {}), (negatives or {}).get(source)
        own = _prefixed("source", rates.get(source)) | _prefixed("source_base", of_base.get(source))
        for name in ("expected_rate", "log_prob_gain"):
            own[f"source_{name}"] = gains[source][name] if source in gains else math.nan
        for target in personas:
            if target == source or not (target in rates or target in gains):
                continue
            share = math.nan if shares is None else shares.get(target, 0.0)
            rows.append(
                {
                    "source": source,
                    "target": target,
                    **(rates.get(target) or dict.fromkeys(_SAMPLED)),
                    **_prefixed("base", of_base.get(target)),
                    **own,
                    **(gains.get(target) or dict.fromkeys(_EXPECTED)),
                    "trained_negative": pd.NA if shares is None else share > 0,
                    "negative_share": share,
                    "source_category": personas[source],
                    "target_category": personas[target],
                    "related": target in related.get(source, ()) or source in related.get(target, ()),
                    "recipe": recipe,
                }
            )
    return pd.DataFrame(rows, columns=list(_LEAKAGE_TABLE), dtype=object).astype(_LEAKAGE_TABLE)


def _expected(
    source: str, log_probs: pd.DataFrame, level: float, resamples: int, random_seed: int
) -> dict[str, dict[str, float]]:
    """Return target → the numbers of `expected_rates`."""
    try:
        table = expected_rates(log_probs, level, resamples, random_seed)
    except ValueError as error:
        raise ValueError(f"source {source}: {error}") from error
    return {str(row.pop("target")): row for row in _records(table)}


def _rates(counts: pd.DataFrame, level: float) -> dict[str, dict[str, float]]:
    """Return target → found, total, rate, rate_low, rate_high."""
    return {str(row.pop("target")): row for row in _records(rates_by_target(counts, level))}


def _records(table: pd.DataFrame) -> list[dict[str, float]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _prefixed(prefix: str, rate: Mapping[str, float] | None) -> dict[str, float | None]:
    found, total, share = (rate["found"], rate["total"], rate["rate"]) if rate else (None, None, math.nan)
    return {f"{prefix}_found": found, f"{prefix}_total": total, f"{prefix}_rate": share}


def spearman_over_dyads(pair_table: pd.DataFrame, predictor: str, outcome: str = "leakage_rate") -> tuple[float, int]:
    """Return Spearman's rank correlation of a predictor with an outcome, over the dyads that have both.

    It returns no p-value on purpose: dyads share sources and targets, so n dyads carry less information than n
    independent observations, and the usual p would be much too small. Use `statistics` for valid inference.

    Args:
        pair_table: table from `build_pair_table` with leakage.
        predictor: name of a numeric column, such as js.
        outcome: leakage_rate, expected_rate or log_prob_gain.

    Returns:
        ρ within [−1, 1], and n. ρ is NaN if n < 3 or one of the two is constant.

    Raises:
        ValueError: the table lacks the outcome or the predictor.
    """
    if absent := [column for column in (outcome, predictor) if column not in pair_table.columns]:
        raise ValueError(f"pair_table lacks {absent}; found the columns {list(pair_table.columns)}")
    both = pd.DataFrame({"x": pair_table[predictor], "y": pair_table[outcome]}).dropna().astype("float64")
    if len(both) < 3 or both["x"].nunique() < 2 or both["y"].nunique() < 2:
        return math.nan, len(both)
    return float(stats.spearmanr(both["x"], both["y"]).statistic), len(both)
