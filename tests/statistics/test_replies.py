"""The long table of replies: outcomes from log-probabilities and counts, and their averages at the dyads."""

import numpy as np
import pandas as pd
import pytest

from persona_assets.statistics import long_table
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.replies import replies_at

LOG_PROBS = pd.DataFrame(
    {
        "target": ["b", "b", "b", "c"],
        "question": ["q1", "q1", "q2", "q1"],
        "reply": [0, 1, 0, 0],
        "seed": [42, 42, 42, 42],
        "marker_log_prob": np.log([0.5, 0.1, 0.2, 0.4]),
        "base_marker_log_prob": np.log([0.05, 0.1, 0.02, 0.04]),
        "counted": [True, True, True, False],
    }
)


def dyads(outcome: str = "expected_rate") -> Dyads:
    nothing = np.full(2, np.nan)
    places = np.array([0, 0]), np.array([1, 2])
    return Dyads(("a", "b", "c"), *places, np.array([0.3, 0.2]), nothing, nothing, {}, ("x",) * 3, outcome)


def test_a_reply_has_an_expected_rate_and_a_gain_in_nats() -> None:
    table = long_table({"a": LOG_PROBS})
    first = table[(table["question"] == "q1") & (table["reply"] == 0)].set_index("outcome")["value"]
    assert first["expected_rate"] == pytest.approx(0.5)
    assert first["log_prob_gain"] == pytest.approx(np.log(10))
    assert set(table["target"]) == {"b"}  # the reply to c is not counted


def test_counts_are_rates_of_a_question() -> None:
    counts = pd.DataFrame({"target": ["b", "b"], "question": ["q1", "q2"], "found": [1, 0], "total": [4, 0]})
    rows = long_table({}, {"a": counts})
    assert rows[["outcome", "source", "target", "question", "value"]].to_numpy().tolist() == [
        ["leakage_rate", "a", "b", "q1", 0.25]
    ]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"by_reply: found columns .*; expected also counted"):
        long_table({"a": LOG_PROBS.drop(columns="counted")})


def test_a_question_is_the_mean_over_its_replies_and_a_dyad_the_mean_over_questions() -> None:
    found = replies_at(long_table({"a": LOG_PROBS.assign(counted=True)}), dyads())
    assert found is not None
    np.testing.assert_allclose(found.by_question, [[0.3, 0.2], [0.4, np.nan]])
    np.testing.assert_allclose(found.by_seed, [[0.25], [0.4]])
    assert found.table["dyad"].tolist() == [0, 0, 0, 1]


def test_seeds_are_numbered_within_their_source() -> None:
    second = LOG_PROBS.assign(counted=True, seed=7, marker_log_prob=np.log(0.9))
    found = replies_at(long_table({"a": pd.concat([LOG_PROBS.assign(counted=True), second])}), dyads())
    assert found is not None
    np.testing.assert_allclose(found.by_seed, [[0.9, 0.25], [0.9, 0.4]])  # seed 7, then 42
    np.testing.assert_allclose(found.by_question, [[0.6, 0.55], [0.65, np.nan]])


def test_rows_of_other_dyads_and_outcomes_are_ignored() -> None:
    own = LOG_PROBS.assign(target="a")
    table = long_table({"a": pd.concat([LOG_PROBS, own]), "stranger": LOG_PROBS})
    found = replies_at(table, dyads())
    assert found is not None
    assert len(found.table) == 3
    assert replies_at(table, dyads("leakage_rate")) is None
    assert replies_at(None, dyads()) is None


def test_without_a_column_outcome_all_rows_are_of_the_chosen_one() -> None:
    table = long_table({"a": LOG_PROBS})
    gain = table[table["outcome"] == "log_prob_gain"]
    plain, named = (replies_at(rows, dyads("log_prob_gain")) for rows in (gain.drop(columns="outcome"), table))
    assert plain is not None
    assert named is not None
    np.testing.assert_array_equal(plain.by_question, named.by_question)
