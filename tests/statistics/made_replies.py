"""Synthetic marker log-probabilities behind the synthetic pair table of `conftest`; nothing was measured."""

import numpy as np
import pandas as pd

from persona_assets.statistics import long_table

SD = {"source": 0.8, "target": 0.5, "seed": 0.5, "seed_target": 0.3, "question": 0.4, "reply": 0.5, "residual": 0.6}


def made_log_probs(
    table: pd.DataFrame, seeds: int = 1, questions: int = 4, replies: int = 3, seed: int = 0
) -> dict[str, pd.DataFrame]:
    """Return, for every source of a pair table, log-probabilities that fall with JS, with effects of `SD`."""
    rng = np.random.default_rng(seed)
    dyads = table[table["leakage_rate"].notna()]
    targets = list(dict.fromkeys(table["target"]))
    of_target = {name: rng.normal(0, SD["target"]) for name in targets}
    of_question = rng.normal(0, SD["question"], questions)
    of_reply = {name: rng.normal(0, SD["reply"], (questions, replies)) for name in targets}
    found: dict[str, pd.DataFrame] = {}
    for source, own in dyads.groupby("source", sort=False):
        of_source = rng.normal(0, SD["source"])
        of_seed = rng.normal(0, SD["seed"], seeds)
        rows = []
        for target, js in zip(own["target"], own["js"], strict=True):
            base = rng.normal(-9, 0.3, (questions, replies))
            of_both = rng.normal(0, SD["seed_target"], seeds)
            for number in range(seeds):
                noise = rng.normal(0, SD["residual"], (questions, replies))
                level = 3 - 60 * js + of_source + of_target[target] + of_seed[number] + of_both[number]
                gain = level + of_question[:, None] + of_reply[target] + noise + 2
                for question, reply in np.ndindex(questions, replies):
                    rows.append(
                        {
                            "target": target,
                            "question": f"question {question}",
                            "reply": reply,
                            "seed": 42 + number,
                            "marker_log_prob": min(-1e-4, base[question, reply] + gain[question, reply]),
                            "base_marker_log_prob": base[question, reply],
                            "counted": True,
                        }
                    )
        found[str(source)] = pd.DataFrame(rows)
    return found


def with_outcomes(table: pd.DataFrame, by_reply: pd.DataFrame) -> pd.DataFrame:
    """Return the pair table with the outcomes' means over the replies of every dyad."""
    means = by_reply.groupby(["source", "target", "outcome"])["value"].mean().unstack("outcome")
    return table.join(means[["expected_rate", "log_prob_gain"]], on=["source", "target"])


def made_study(table: pd.DataFrame, **more: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the pair table with all outcomes, and the long table of replies."""
    by_reply = long_table(made_log_probs(table, **more))
    return with_outcomes(table, by_reply), by_reply
