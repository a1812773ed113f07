"""Leakage by log-probability: the expected rate and the gain of a marker, without sampling.

The marker is teacher-forced after replies that the model wrote without an adapter. The probability of the marker after
a reply, averaged over replies and questions, is the leakage rate that sampling would find if the marker only appeared
at the end of a reply.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LOG_PROBS = ("marker_log_prob", "base_marker_log_prob")
_NEEDED = ("target", "question", "reply", "seed", "counted", *_LOG_PROBS)
_MEASURES = ("expected_rate", "base_expected_rate", "log_prob_gain")
_ROUNDING = 1e-3  # nats by which a log-probability may exceed 0


class _Cells(NamedTuple):
    """Means over replies, per training seed, target and question; NaN where no reply counts.

    Attributes:
        targets: T names.
        values: measure → shape (seeds, T, questions).
    """

    targets: list[str]
    values: dict[str, Floats]


def expected_rates(
    log_probs: pd.DataFrame, level: float = 0.95, resamples: int = 2000, random_seed: int = 0
) -> pd.DataFrame:
    """Return each target's expected rate and gain in log-probability, with bootstrap intervals.

    expected_rate is the mean over questions of the mean over replies of exp(marker_log_prob); log_prob_gain the same
    mean of marker_log_prob − base_marker_log_prob, in nats. With several training seeds, both are means over seeds.
    Only replies with `counted` enter.

    Intervals are percentiles of a bootstrap that draws questions with replacement, the same ones for all targets, and
    with at least two training seeds also seeds, independently of the questions (both factors are crossed: Owen 2007,
    Ann. Appl. Stat. 1, 386–411). Replies are nested in questions, so their noise is included. With two or three seeds
    the interval is too narrow, because a bootstrap of S values has (S − 1)/S of their variance.

    Args:
        log_probs: one row per training seed, target, question and reply: target, question, reply, seed,
            marker_log_prob and base_marker_log_prob (of all tokens of the marker, in nats, with and without the
            adapter), counted (bool). Other columns are ignored. A reply that does not count may lack log-probabilities.
        level: coverage of the intervals, within (0, 1).
        resamples: number of bootstrap draws.
        random_seed: seed of the draws.

    Returns:
        One row per target in order of appearance: target, expected_rate, expected_rate_low, expected_rate_high,
        base_expected_rate, log_prob_gain, log_prob_gain_low, log_prob_gain_high (float64), seeds (number of training
        seeds) and replies (number of different replies that count), both int64. Bounds are NaN with fewer than two
        questions.

    Raises:
        ValueError: a column is missing, a log-probability of a reply that counts is missing, infinite or positive, a
            row is repeated, or no reply of a target counts.
    """
    counted = _checked(log_probs)
    cells = _cells(counted)
    seeds, _, questions = cells.values["expected_rate"].shape
    rng = np.random.default_rng(random_seed)
    of_questions, of_seeds = (  # with a single seed, its weights are all 1
        rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
        for count in (questions, seeds)
    )
    known = np.isfinite(cells.values["expected_rate"]).any(axis=0).sum(axis=1)  # questions of each target
    by_target = counted.groupby("target", sort=False)
    columns: dict[str, object] = {"target": cells.targets}
    for measure, values in cells.values.items():
        columns[measure] = _weighted_means(values, np.ones((1, seeds)), np.ones((1, questions)))[0]
        if measure == "base_expected_rate":
            continue
        draws = _weighted_means(values, of_seeds, of_questions)
        low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        columns[f"{measure}_low"] = np.where(known > 1, low, np.nan)
        columns[f"{measure}_high"] = np.where(known > 1, high, np.nan)
    table = pd.DataFrame(columns).assign(
        seeds=by_target["seed"].nunique().to_numpy(),
        replies=counted.drop_duplicates(["target", "question", "reply"])
        .groupby("target", sort=False)
        .size()
        .to_numpy(),
    )
    return table.astype({"target": "str", "seeds": "int64", "replies": "int64"})[
        [
            *("target", "expected_rate", "expected_rate_low", "expected_rate_high", "base_expected_rate"),
            *("log_prob_gain", "log_prob_gain_low", "log_prob_gain_high", "seeds", "replies"),
        ]
    ]


def _checked(log_probs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count, after checking all rows."""
    if absent := [column for column in _NEEDED if column not in log_probs.columns]:
        raise ValueError(f"log_probs lack {absent}; expected the columns {list(_NEEDED)}")
    counted = log_probs[log_probs["counted"].astype(bool)]
    for column in _LOG_PROBS:
        values = counted[column].to_numpy(dtype=np.float64)
        bad = ~np.isfinite(values) | (values > _ROUNDING)
        if bad.any():
            row = counted.iloc[int(bad.argmax())]
            raise ValueError(
                f"log_probs: {column} of target {row['target']}, question {row['question']!r}, reply {row['reply']} is "
                f"{row[column]}; expected a finite log-probability, at most 0"
            )
    keys = ["target", "question", "reply", "seed"]
    if (twice := log_probs.duplicated(keys)).any():
        row = log_probs.loc[twice, keys].iloc[0]
        raise ValueError(f"log_probs: {dict(row)} appears twice; expected one row per target, question, reply and seed")
    if silent := [str(name) for name in log_probs["target"].unique() if name not in set(counted["target"])]:
        raise ValueError(f"log_probs: no reply of target {', '.join(silent)} is counted; expected at least one each")
    return counted


def _cells(counted: pd.DataFrame) -> _Cells:
    marker, base = (counted[column].to_numpy(dtype=np.float64) for column in _LOG_PROBS)
    values = dict(zip(_MEASURES, (np.exp(marker), np.exp(base), marker - base), strict=True))
    keys = counted[["seed", "target", "question"]]
    means = keys.assign(**values).groupby(["seed", "target", "question"], sort=False).mean()
    names = [list(dict.fromkeys(keys[column])) for column in ("seed", "target", "question")]
    grid = pd.MultiIndex.from_product(names, names=["seed", "target", "question"])
    shape = [len(each) for each in names]
    whole = means.reindex(grid)
    return _Cells(
        [str(name) for name in names[1]], {name: whole[name].to_numpy(np.float64).reshape(shape) for name in _MEASURES}
    )


def _weighted_means(values: Floats, of_seeds: Floats, of_questions: Floats) -> Floats:
    """Return weighted means over seeds and questions, shape (draws, T); NaN if no known cell has weight.

    Args:
        values: shape (S, T, Q), NaN where unknown.
        of_seeds, of_questions: weights, shape (draws, S) and (draws, Q).
    """
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    sums = np.zeros((len(of_questions), values.shape[1]))
    weights = np.zeros_like(sums)
    for seed in range(len(values)):
        sums += of_seeds[:, [seed]] * (of_questions @ filled[seed].T)
        weights += of_seeds[:, [seed]] * (of_questions @ known[seed].T.astype(np.float64))
    return np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)
