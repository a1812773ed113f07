"""Reliability and cost of each outcome of leakage, from the stored results of a finished run.

    python -m benchmarks.outcome --home dagster_home --checkpoint smollm2-135m-instruct

Reads what the study that PERSONA_ASSETS_STUDY names (the embedded one by default) stored for the checkpoint.
Reliability is that of the ranking of dyads: Spearman between two halves of the questions, averaged over all splits and
stepped up to all questions (Spearman–Brown). Fewer replies per question are the first ones of those that were measured.
"""

import argparse
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd

from benchmarks.reporting import heading, table
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, partition_key, split_key
from persona_assets.stages.leakage import sampled_counts
from persona_assets.statistics import long_table
from persona_assets.statistics.reliability import split_half
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.store.artefacts import Artefact

RESULTS = Path(__file__).parent / "results" / "outcome.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--checkpoint", required=True)
    arguments = parser.parse_args()
    home = Home(arguments.home.resolve())
    keys = [partition_key(arguments.checkpoint, source) for source in STUDY.sources]
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        found = {
            asset: {
                split_key(key)[1]: artefact
                for key, artefact in latest_artefacts(instance, home.store, asset, keys).items()
            }
            for asset in ("marker_log_probs", "marker_rates")
        }
    log_probs, rates = ({source: each.read() for source, each in found[asset].items()} for asset in found)
    replies = long_table(log_probs, sampled_counts(STUDY, rates))
    most = int(replies[replies.outcome == "expected_rate"].reply.max()) + 1
    rows: list[dict[str, object]] = []
    for outcome in ("expected_rate", "log_prob_gain"):
        values = replies[replies.outcome == outcome]
        rows += [_row(outcome, str(count), values[values.reply < count]) for count in (1, 2, 5, 20) if count <= most]
    assert STUDY.marker is not None
    rows.append(_row("rate", str(STUDY.marker.evaluation.samples), replies[replies.outcome == "leakage_rate"]))
    text = f"""# Outcomes of leakage

`python -m benchmarks.outcome` on {arguments.checkpoint}, study {STUDY.name}, {heading()}

{table(rows)}

{table([_cost(asset, [*artefacts.values()]) for asset, artefacts in found.items()])}
"""
    print(text)
    RESULTS.write_text(text, encoding="utf-8")


def _row(outcome: str, count: str, values: pd.DataFrame) -> dict[str, object]:
    dyads = values[values.source != values.target]
    by_question = dyads.pivot_table(index=["source", "target"], columns="question", values="value", sort=False)
    try:
        found = split_half(by_question.to_numpy(dtype=np.float64))
    except UnanswerableError as error:
        return {"outcome": outcome, "replies per question": count, "halves": "–", "reliability": str(error)}
    return {
        "outcome": outcome,
        "replies per question": count,
        "halves": f"{found.halves:.2f}",
        "reliability": f"{found.whole:.2f}",
    }


def _cost(asset: str, artefacts: list[Artefact]) -> dict[str, object]:
    seconds, replies = (sum(each.measured[name] for each in artefacts) for name in ("seconds", "replies"))
    return {
        "asset": asset,
        "replies per source": replies // len(artefacts),
        "seconds per source": f"{seconds / len(artefacts):.1f}",
        "milliseconds per reply": f"{1000 * seconds / replies:.0f}",
    }


if __name__ == "__main__":
    main()
