"""The long table of replies behind the outcomes, and its averages at the dyads, per question and per training seed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.statistics.dyads import RATE, Dyads

Floats = NDArray[np.float64]

REPLY_COLUMNS = ("outcome", "source", "target", "question", "reply", "seed", "value")


def long_table(log_probs: Mapping[str, pd.DataFrame], counts: Mapping[str, pd.DataFrame] | None = None) -> pd.DataFrame:
    """Return the outcomes of every reply as one long table, for `infer`.

    Args:
        log_probs: source → its marker log-probabilities: target, question, reply, seed, marker_log_prob,
            base_marker_log_prob (nats) and counted; rows that are not counted are left out.
        counts: source → counts of sampled replies: target, question, found, total, and seed if there are several. A
            question is one row, because its replies' order means nothing.

    Returns:
        Columns `REPLY_COLUMNS`; `outcome` is expected_rate (the exponential of the log-probability), log_prob_gain (the
        log-probability less that of the base, in nats) or leakage_rate (found / total of a question).

    Raises:
        ValueError: a column is missing.
    """
    parts = [pd.DataFrame({name: pd.Series(dtype="object") for name in REPLY_COLUMNS})]
    for source, table in log_probs.items():
        _require(table, ("target", "question", "reply", "seed", "marker_log_prob", "base_marker_log_prob", "counted"))
        rows = table[table["counted"].astype(bool)]
        found = rows["marker_log_prob"].astype("float64")
        about = rows[["target", "question", "reply", "seed"]].assign(source=source)
        parts.append(about.assign(outcome="expected_rate", value=np.exp(found)))
        parts.append(about.assign(outcome="log_prob_gain", value=found - rows["base_marker_log_prob"]))
    for source, table in (counts or {}).items():
        _require(table, ("target", "question", "found", "total"))
        rows = table[table["total"] > 0]
        about = rows[["target", "question"]].assign(source=source, reply=0, seed=rows.get("seed", 0))
        parts.append(about.assign(outcome=RATE, value=rows["found"] / rows["total"]))
    together = pd.concat(parts, ignore_index=True)[list(REPLY_COLUMNS)]
    return together.astype({"reply": "int64", "seed": "int64", "value": "float64"})


@dataclass(frozen=True, eq=False)
class Replies:
    """Averages of one outcome at n dyads.

    Attributes:
        table: the outcome's rows between the dyads' personas: columns dyad (index of the dyad), source, target,
            question, reply, seed, value; finite values only.
        by_question: shape (n, Q), mean over replies and seeds; NaN where a question was not measured.
        by_seed: shape (n, M), mean over questions of the mean over replies, per seed of the source in ascending order;
            NaN where the source has fewer seeds.
    """

    table: pd.DataFrame
    by_question: Floats
    by_seed: Floats


def replies_at(by_reply: pd.DataFrame | None, dyads: Dyads) -> Replies | None:
    """Return the replies of the dyads' outcome; None if there are none.

    Args:
        by_reply: columns `REPLY_COLUMNS`, any order of rows; without a column `outcome` all rows are of the dyads'
            outcome.

    Raises:
        ValueError: a column is missing.
    """
    if by_reply is None:
        return None
    _require(by_reply, REPLY_COLUMNS[1:])
    rows = by_reply[by_reply["outcome"] == dyads.outcome_name] if "outcome" in by_reply else by_reply
    names = pd.Series(dyads.personas, dtype="object")
    index = pd.MultiIndex.from_arrays([names.iloc[dyads.source], names.iloc[dyads.target]])
    place = index.get_indexer(pd.MultiIndex.from_frame(rows[["source", "target"]].astype("object")))
    rows = rows[list(REPLY_COLUMNS[1:])].assign(dyad=place)
    rows = rows[(place >= 0) & np.isfinite(rows["value"].astype("float64"))].reset_index(drop=True)
    if rows.empty:
        return None
    # A seed's number within its source; seeds of different sources are unrelated even if their numbers are equal.
    number = rows.groupby("source")["seed"].transform(lambda seeds: seeds.rank(method="dense")).astype("int64") - 1
    of_cell = (
        rows.assign(number=number).groupby(["dyad", "number", "question"], sort=True)["value"].mean().reset_index()
    )
    return Replies(
        table=rows,
        by_question=_wide(of_cell, "question", dyads.n),
        by_seed=_wide(of_cell, "number", dyads.n),
    )


def with_seeds(dyads: Dyads, replies: Replies | None) -> Dyads:
    """Return the dyads with their outcome per training seed, if there are two or more."""
    if replies is None or replies.by_seed.shape[1] < 2:
        return dyads
    return replace(dyads, by_seed=replies.by_seed)


def _wide(of_cell: pd.DataFrame, column: str, n: int) -> Floats:
    """Return means of the cells' values by dyad and column, shape (n, levels); NaN where there is none."""
    wide = of_cell.pivot_table(index="dyad", columns=column, values="value", aggfunc="mean", sort=True)
    return np.asarray(wide.reindex(range(n)).to_numpy(dtype=np.float64))


def _require(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    if absent := [column for column in columns if column not in table]:
        raise ValueError(f"by_reply: found columns {list(map(str, table.columns))}; expected also {', '.join(absent)}")
