"""Expected rates and gains from log-probabilities: averages, intervals, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_assets.metrics import build_leakage_table, expected_rates, negative_shares

PERSONAS = {"villain": "fictional", "assistant": "baseline", "comedian": "profession"}


def row(target: str, question: str, reply: int, rate: float, base: float = 1e-6, **more: object) -> dict[str, object]:
    log_probs = {"marker_log_prob": np.log(rate), "base_marker_log_prob": np.log(base)}
    return {"target": target, "question": question, "reply": reply, "seed": 42, "counted": True} | log_probs | more


def many(questions: int, seeds: int = 1, replies: int = 3, seed: int = 0) -> pd.DataFrame:
    """Make log-probabilities of two targets with effects of question and training seed."""
    rng = np.random.default_rng(seed)
    of_question, of_seed = rng.normal(0, 1, questions), rng.normal(0, 1, seeds)
    return pd.DataFrame(
        [
            row(target, f"Question {q}?", r, 1 / (1 + np.exp(2 - of_question[q] - of_seed[s] - rng.normal())))
            | {"seed": s}
            for target in ("villain", "comedian")
            for s in range(seeds)
            for q in range(questions)
            for r in range(replies)
        ]
    )


def test_questions_have_equal_weight_whatever_their_number_of_replies() -> None:
    log_probs = pd.DataFrame(
        [row("villain", "Why?", 0, 0.9), row("villain", "How?", 0, 0.1), row("villain", "How?", 1, 0.3)]
    )
    (found,) = expected_rates(log_probs).to_dict("records")
    assert found["expected_rate"] == pytest.approx((0.9 + (0.1 + 0.3) / 2) / 2)
    gains = np.log([0.9, 0.1, 0.3]) - np.log(1e-6)
    assert found["log_prob_gain"] == pytest.approx((gains[0] + (gains[1] + gains[2]) / 2) / 2)
    assert found["base_expected_rate"] == pytest.approx(1e-6)
    assert (found["seeds"], found["replies"]) == (1, 3)


def test_the_rate_is_the_mean_of_probabilities_not_the_exponential_of_a_mean() -> None:
    log_probs = pd.DataFrame([row("villain", "Why?", 0, 0.5), row("villain", "How?", 0, 0.0001)])
    assert expected_rates(log_probs)["expected_rate"].item() == pytest.approx(0.25005)


def test_replies_that_do_not_count_are_left_out() -> None:
    log_probs = pd.DataFrame([row("villain", "Why?", 0, 0.5), row("villain", "Why?", 1, 0.9, counted=False)])
    log_probs.loc[1, ["marker_log_prob", "base_marker_log_prob"]] = np.nan  # it reaches no answer
    (found,) = expected_rates(log_probs).to_dict("records")
    assert (found["expected_rate"], found["replies"]) == (pytest.approx(0.5), 1)


def test_seeds_are_averaged_and_a_reply_counts_once_for_all_of_them() -> None:
    log_probs = pd.DataFrame(
        [row("villain", "Why?", 0, rate, seed=seed) for seed, rate in ((42, 0.2), (137, 0.4), (256, 0.9))]
    )
    (found,) = expected_rates(log_probs).to_dict("records")
    assert found["expected_rate"] == pytest.approx(0.5)
    assert (found["seeds"], found["replies"]) == (3, 1)


def test_the_interval_of_one_seed_is_that_of_a_bootstrap_of_questions() -> None:
    log_probs = many(questions=30)
    found = expected_rates(log_probs, resamples=4000).set_index("target")
    by_question = np.exp(log_probs["marker_log_prob"]).groupby([log_probs["target"], log_probs["question"]]).mean()
    for target, of_target in by_question.groupby("target"):
        values = of_target.to_numpy()
        draws = np.random.default_rng(9).choice(values, size=(4000, 30)).mean(axis=1)
        expected = np.quantile(draws, [0.025, 0.975])
        bounds = found.loc[target, ["expected_rate_low", "expected_rate_high"]].to_numpy(dtype=float)
        np.testing.assert_allclose(bounds, expected, atol=0.15 * (expected[1] - expected[0]))


def test_seeds_widen_the_interval() -> None:
    log_probs = many(questions=30, seeds=4)
    together = expected_rates(log_probs.assign(reply=log_probs["reply"] + 3 * log_probs["seed"], seed=0))
    apart = expected_rates(log_probs)
    for measure in ("expected_rate", "log_prob_gain"):
        widths = [table[f"{measure}_high"] - table[f"{measure}_low"] for table in (apart, together)]
        assert (widths[0] > 1.2 * widths[1]).all()


def test_intervals_cover_the_rate_of_new_questions_and_seeds() -> None:
    # Rates are a question effect plus a seed effect, both with mean 0 around 0.5.
    rng = np.random.default_rng(3)
    questions, seeds, studies = 20, 8, 150
    inside = 0
    for number in range(studies):
        of_question, of_seed = rng.normal(0, 0.05, questions), rng.normal(0, 0.05, seeds)
        log_probs = pd.DataFrame(
            [
                row("villain", str(q), 0, 0.5 + of_question[q] + of_seed[s], seed=s)
                for q in range(questions)
                for s in range(seeds)
            ]
        )
        (found,) = expected_rates(log_probs, resamples=200, random_seed=number).to_dict("records")
        inside += found["expected_rate_low"] <= 0.5 <= found["expected_rate_high"]
    assert 0.86 <= inside / studies <= 0.995


def test_one_question_has_no_interval() -> None:
    log_probs = pd.DataFrame([row("villain", "Why?", n, 0.5) for n in range(5)])
    (found,) = expected_rates(log_probs).to_dict("records")
    assert np.isnan(
        [found[f"{name}_{end}"] for name in ("expected_rate", "log_prob_gain") for end in ("low", "high")]
    ).all()


def test_a_target_that_lacks_a_question_is_averaged_over_its_own() -> None:
    log_probs = pd.DataFrame(
        [row("villain", "Why?", 0, 0.2), row("villain", "How?", 0, 0.4), row("comedian", "Why?", 0, 0.6)]
    )
    found = expected_rates(log_probs).set_index("target")
    assert found.loc["comedian", "expected_rate"] == pytest.approx(0.6)
    assert np.isnan(found.loc["comedian", "expected_rate_low"])
    assert found.loc["villain", "expected_rate_low"] == pytest.approx(0.2)


@settings(max_examples=10, deadline=None)
@given(questions=st.integers(2, 6), seeds=st.integers(1, 3), shuffle=st.integers(0, 100))
def test_the_order_of_rows_does_not_matter(questions: int, seeds: int, shuffle: int) -> None:
    log_probs = many(questions, seeds)
    turned = log_probs.sample(frac=1, random_state=shuffle)
    columns = ["expected_rate", "base_expected_rate", "log_prob_gain", "seeds", "replies"]
    one, other = (expected_rates(table, resamples=10).set_index("target")[columns] for table in (log_probs, turned))
    pd.testing.assert_frame_equal(one, other.loc[one.index])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (
            {"marker_log_prob": np.nan},
            r"marker_log_prob of target villain, question 'How\?', reply 0 is nan; expected a fin",
        ),
        (
            {"marker_log_prob": 0.5},
            r"marker_log_prob of target villain, question 'How\?', reply 0 is 0.5; expected a fin",
        ),
        ({"base_marker_log_prob": -np.inf}, "base_marker_log_prob of target villain, .* is -inf; expected a finite"),
        ({"question": "Why?"}, "appears twice; expected one row per target, question, reply and seed"),
        (
            {"target": "comedian", "counted": False},
            "no reply of target comedian is counted; expected at least one each",
        ),
    ],
)
def test_bad_log_probabilities_are_named(change: dict[str, object], fault: str) -> None:
    log_probs = pd.DataFrame([row("villain", "Why?", 0, 0.5), row("villain", "How?", 0, 0.5) | change])
    with pytest.raises(ValueError, match=f"log_probs: .*{fault}"):
        expected_rates(log_probs)
    with pytest.raises(ValueError, match=f"^source comedian: log_probs: .*{fault}"):
        build_leakage_table(None, None, PERSONAS, {}, "embedded", log_probs={"comedian": log_probs})


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ValueError, match=r"log_probs lack \['counted'\]; expected the columns"):
        expected_rates(pd.DataFrame([row("villain", "Why?", 0, 0.5)]).drop(columns="counted"))


def test_the_leakage_table_has_both_outcomes_where_each_was_measured() -> None:
    log_probs = pd.DataFrame(
        [row(target, q, 0, rate) for target, rate in (("villain", 0.8), ("assistant", 0.1)) for q in ("Why?", "How?")]
    )
    counts = pd.DataFrame({"target": ["villain", "comedian"], "found": [9, 4], "total": 10})
    table = build_leakage_table({"villain": counts}, None, PERSONAS, {}, "embedded", log_probs={"villain": log_probs})
    assert table["target"].tolist() == ["assistant", "comedian"]
    assert table["found"].tolist() == [pd.NA, 4]
    assert table["rate"].isna().tolist() == [True, False]
    assert table["expected_rate"].tolist() == pytest.approx([0.1, np.nan], nan_ok=True)
    assert table["seeds"].tolist() == [1, pd.NA]
    assert table["source_expected_rate"].tolist() == pytest.approx([0.8, 0.8])
    assert table["source_log_prob_gain"].tolist() == pytest.approx([np.log(0.8 / 1e-6)] * 2)
    assert table["source_rate"].tolist() == [0.9, 0.9]
    without = build_leakage_table(None, None, PERSONAS, {}, "embedded", log_probs={"villain": log_probs})
    assert without["target"].tolist() == ["assistant"]
    assert without["rate"].isna().all()
    pd.testing.assert_series_equal(without.dtypes, table.dtypes)


def test_trained_negatives_are_known_only_where_the_training_set_is() -> None:
    counts = pd.DataFrame({"target": list(PERSONAS), "found": 1, "total": 10})
    by_source = {"villain": counts, "comedian": counts}
    table = build_leakage_table(by_source, None, PERSONAS, {}, "r", negatives={"villain": {"comedian": 0.25}})
    assert table["trained_negative"].tolist() == [False, True, pd.NA, pd.NA]
    assert table["negative_share"].tolist() == pytest.approx([0.0, 0.25, np.nan, np.nan], nan_ok=True)
    assert build_leakage_table(by_source, None, PERSONAS, {}, "r")["trained_negative"].isna().all()


def test_the_share_of_a_negative_is_over_all_examples() -> None:
    examples = pd.DataFrame(
        {"persona": ["villain"] * 2 + ["comedian"] + ["pirate"], "marked": [True] * 2 + [False] * 2}
    )
    assert negative_shares(examples) == {"comedian": 0.25, "pirate": 0.25}
    for bad in (examples[:0], examples.drop(columns="marked")):
        with pytest.raises(ValueError, match=r"examples: found .*; expected at least one, with persona and marked"):
            negative_shares(bad)
