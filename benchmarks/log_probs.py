"""Leakage by log-probability: its cost beside sampling, and its reliability by replies per question.

    nice python -m benchmarks.log_probs            # half an hour on two idle cores

Trains every source of the embedded study, samples its targets as the recipe says, and measures the marker's
log-probability behind 20 replies per target and question. Reliability is that of the ranking of dyads: Spearman between
two halves of the questions, stepped up to all questions (Spearman–Brown). Writes the section "Replies per question" of
`results/outcome.md`; with --keep, measurements are kept in a folder and a second run continues from them.
"""

import argparse
import itertools
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from benchmarks.embedded_study import embedded_study
from benchmarks.reporting import heading, table
from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import (
    LoadedModel,
    Reply,
    TransformersGenerator,
    build_training_set,
    cut_reply,
    load_model,
    marker_log_probs,
    plan_conversations,
    train_adapter,
)
from persona_assets.inference.embedded_model import NAME, ensure_embedded_model
from persona_assets.metrics import contains_marker
from persona_assets.study import Study
from persona_assets.study.recipe import Recipe
from persona_assets.study.settings import Decoding

RESULTS = Path(__file__).parent / "results" / "outcome.md"
TITLE = "## Replies per question"
COUNTS = (1, 2, 5, 20)
SAMPLES = 5  # if the recipe samples nothing
KEY = ["target", "question", "reply"]

T = TypeVar("T")


class Measuring:
    """The embedded study and model, and the replies of the base model."""

    def __init__(self, folder: Path, replies: int) -> None:
        self.study, self.base = embedded_study("cpu")
        assert self.study.marker is not None
        self.recipe: Recipe = self.study.marker
        self.folder, self.replies, self.chat = folder, replies, self.base.chat

    def kept(self, name: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """Return a table from the folder; compute it if it is not there."""
        file = self.folder / f"{name}.parquet"
        if not file.is_file():
            compute().to_parquet(file)
        return pd.read_parquet(file)

    def prompt(self, target: str, question: str) -> list[int]:
        return self.chat.prompt_ids(self.study.prompts[target], question)

    def written(self, loaded: LoadedModel, count: int, decoding: Decoding) -> pd.DataFrame:
        """Write `count` replies of every target to every question."""
        rows = [(t, q, n) for t in self.study.targets for q in self.study.questions for n in range(count)]
        prompts = [self.prompt(target, question) for target, question, _ in rows]
        replies = TransformersGenerator(loaded).generate(prompts, decoding)
        return pd.DataFrame(rows, columns=KEY).assign(
            token_ids=pd.Series([list(each.token_ids) for each in replies]),
            text=[each.text for each in replies],
            finish_reason=[each.finish_reason for each in replies],
        )

    def log_probs(self, loaded: LoadedModel, written: pd.DataFrame) -> list[float]:
        """Return the marker's log-probability behind every reply, cut as in training."""
        replies, stop, where = list[Reply](), loaded.stop_ids, self.recipe.replies.cut
        columns = [written[name].tolist() for name in ("target", "question", "token_ids", "finish_reason")]
        for target, question, ids, reason in zip(*columns, strict=True):
            if (cut := cut_reply(self.chat, ids, reason, stop, where)) is not None:
                replies.append(Reply(self.prompt(target, question), cut.reply))
        assert len(replies) == len(written)  # this model does not think
        return [each.marker for each in marker_log_probs(loaded, replies, self.recipe.marker.text)]

    def trained(self, source: str, folder: Path) -> LoadedModel:
        """Return the model with a source's adapter, merged."""
        study, recipe = self.study, self.recipe
        plan = plan_conversations(recipe, source, list(study.personas), study.baseline, study.training_questions)
        generator = TransformersGenerator(self.base)
        built = build_training_set(self.chat, self.base.stop_ids, generator, recipe, plan, study.prompts)
        examples = [example for example in built if example is not None]
        train_adapter(self.base, examples, recipe, folder, lambda *_: None)
        directory = ensure_embedded_model(Path(__file__).parents[1] / "dagster_home" / "models")
        checkpoint = Checkpoint(name=NAME, path=directory)
        return load_model(checkpoint, self.base.hardware, lambda _: None, marker_adapter=folder)

    @property
    def sampling(self) -> Decoding:
        settings = self.recipe.evaluation
        return Decoding(
            method="sampled",
            max_new_tokens=settings.max_new_tokens,
            seed=settings.seed,
            temperature=settings.temperature,
            top_p=settings.top_p,
        )


def measured(run: Measuring, sources: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return tables of log-probabilities, of sampled replies and of seconds, each over all sources."""
    assert run.study.decoding is not None
    decoding = run.study.decoding
    own = run.kept("base", lambda: run.written(run.base, run.replies, run.sampling))
    greedy = run.kept("greedy", lambda: run.written(run.base, 1, decoding))
    both = pd.concat([own, greedy.assign(reply=-1)], ignore_index=True)
    base = run.kept("log_probs_base", lambda: both[KEY].assign(base=run.log_probs(run.base, both)))
    for number, source in enumerate(sources):
        if not (run.folder / f"seconds_{source}.parquet").is_file():
            measure_source(run, source, both, time_all=number < 2)

    def every(name: str) -> pd.DataFrame:
        kept = {source: pd.read_parquet(run.folder / f"{name}_{source}.parquet") for source in sources}
        return pd.concat([each.assign(source=source) for source, each in kept.items()])

    return every("log_probs").merge(base, on=KEY), every("sampled"), every("seconds")


def measure_source(run: Measuring, source: str, replies: pd.DataFrame, time_all: bool) -> None:
    """Train a source; keep its log-probabilities, its sampled replies and what they cost.

    Args:
        replies: those of the base model; the greedy ones have the number −1.
        time_all: whether to time the log-probabilities of fewer replies as well.
    """
    with tempfile.TemporaryDirectory() as folder:
        loaded = run.trained(source, Path(folder))
    rows: list[dict[str, Any]] = []

    def timed(way: str, count: int, compute: Callable[[], T]) -> T:
        start, cpu = time.perf_counter(), time.process_time()
        done = compute()
        taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
        rows.append({"way": way, "count": count, **taken})
        print(source, rows[-1], flush=True)
        return done

    for count in COUNTS if time_all else ():
        if count <= run.replies:
            few = replies[replies.reply.between(0, count - 1)]
            timed("log-probabilities", count, partial(run.log_probs, loaded, few))
    samples = run.recipe.evaluation.samples or SAMPLES
    written = timed("sampling", samples, lambda: run.written(loaded, samples, run.sampling))
    run.kept(f"sampled_{source}", lambda: written)
    run.kept(f"log_probs_{source}", lambda: replies[KEY].assign(adapted=run.log_probs(loaded, replies)))
    run.kept(f"seconds_{source}", lambda: pd.DataFrame(rows))


def by_question(values: pd.DataFrame) -> pd.DataFrame:
    """Return dyads × questions, the mean over replies of `value`; a source onto itself is no dyad."""
    others = values[values.source != values.target]
    return others.pivot_table(index=["source", "target"], columns="question", values="value", sort=False)


def halves(questions: pd.DataFrame) -> float:
    """Return the reliability of the mean over questions: Spearman between halves, stepped up by Spearman–Brown.

    Averaged over all ways to halve the questions (Brown 1910; Spearman 1910).
    """
    names = list(questions.columns)
    first = [half for half in itertools.combinations(names, len(names) // 2) if names[0] in half]
    rho = [
        spearmanr(questions[list(half)].mean(axis=1), questions.drop(columns=list(half)).mean(axis=1)).statistic
        for half in first
    ]
    return float(np.mean([2 * each / (1 + each) for each in rho]))


def blocks(values: pd.DataFrame, count: int) -> list[pd.DataFrame]:
    """Return dyads × questions for every disjoint block of `count` replies."""
    starts = range(0, int(values.reply.max()) + 2 - count, count)
    return [by_question(values[values.reply.between(start, start + count - 1)]) for start in starts]


def same_questions(each: list[pd.DataFrame]) -> float:
    """Return Spearman between the dyads' means over other replies to the same questions, averaged over pairs."""
    means = [block.mean(axis=1) for block in each]
    return float(np.mean([spearmanr(a, b).statistic for a, b in itertools.combinations(means, 2)]))


def rows_of(found: pd.DataFrame, sampled: pd.DataFrame, seconds: pd.DataFrame) -> list[dict[str, object]]:
    outcomes = {
        "expected rate": found.assign(value=np.exp(found.adapted)),
        "log-probability gain": found.assign(value=found.adapted - found.base),
    }
    cost, replies = seconds.groupby(["way", "count"])[["seconds", "cpu"]].median(), int(found.reply.max()) + 1
    sampling = cost.loc["sampling"].iloc[0]
    rows = list[dict[str, object]]()
    for name, values in outcomes.items():
        whole = by_question(values[values.reply >= 0]).mean(axis=1)
        choices: list[tuple[str, int, list[pd.DataFrame]]] = [
            ("1 (greedy)", 1, [by_question(values[values.reply == -1])])
        ]
        choices += [(str(count), count, blocks(values, count)) for count in COUNTS if count <= replies]
        for shown, count, each in choices:
            taken = cost.loc["log-probabilities"].loc[count]
            rows.append(
                {
                    "outcome": name,
                    "replies per question": shown,
                    "reliability": f"{np.mean([halves(block) for block in each]):.2f}",
                    "other replies": f"{same_questions(each):.3f}" if len(each) > 1 else "–",
                    "all replies": f"{np.mean([spearmanr(b.mean(axis=1), whole).statistic for b in each]):.3f}",
                    "seconds per source": f"{taken.seconds:.1f}",
                    "CPU seconds": f"{taken.cpu:.1f}",
                    "of sampling": f"{taken.cpu / sampling.cpu:.2f} ×",
                }
            )
    return [*rows, _row_of_sampling(found, sampled, sampling)]


def _row_of_sampling(found: pd.DataFrame, sampled: pd.DataFrame, cost: pd.Series) -> dict[str, object]:
    rates = by_question(sampled)
    expected = by_question(found[found.reply >= 0].assign(value=lambda rows: np.exp(rows.adapted)))
    agreement = spearmanr(rates.mean(axis=1), expected.mean(axis=1).loc[rates.index]).statistic
    return {
        "outcome": "sampled rate",
        "replies per question": str(int(sampled.reply.max()) + 1),
        "reliability": f"{halves(rates):.2f}",
        "other replies": "–",
        "all replies": f"{agreement:.3f} (expected rate)",
        "seconds per source": f"{cost.seconds:.1f}",
        "CPU seconds": f"{cost.cpu:.1f}",
        "of sampling": "1 ×",
    }


def write_section(text: str, file: Path = RESULTS) -> None:
    """Put the section into the file in place of an earlier one."""
    whole = file.read_text(encoding="utf-8") if file.is_file() else "# Outcomes of leakage\n"
    earlier = re.compile(rf"^{re.escape(TITLE)}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
    section = f"{TITLE}\n\n{text.strip()}\n"
    found = earlier.search(whole) is not None
    whole = earlier.sub(lambda _: section + "\n", whole) if found else f"{whole.rstrip()}\n\n{section}"
    file.write_text(whole.rstrip() + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder of measurements")
    parser.add_argument("--sources", type=int, help="number of sources; all by default")
    parser.add_argument("--replies", type=int, default=max(COUNTS), help="replies per target and question")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run = Measuring(folder, asked.replies)
        sources = run.study.sources[: asked.sources]
        found, sampled, seconds = measured(run, sources)
    sampled["value"] = [float(contains_marker(text, run.recipe.marker.detect)) for text in sampled.text]
    text = (
        f"`nice python -m benchmarks.log_probs`, {heading()} {describe(run.study, len(sources))}\n\n"
        "Reliability: Spearman between two halves of the questions, stepped up to all (Spearman–Brown), averaged over "
        "the halves and over disjoint sets of so many replies. Other replies: Spearman between two such sets, with the "
        f"same questions. All replies: Spearman with all {asked.replies}. Cost: median over sources, model loaded; the "
        "base model is measured once for all sources. The ratio is that of CPU seconds.\n\n"
        f"{table(rows_of(found, sampled, seconds))}"
    )
    print(text)
    write_section(text)


def describe(study: Study, sources: int) -> str:
    dyads = sources * (len(study.targets) - 1)
    return f"The embedded study: {sources} sources, {dyads} dyads, {len(study.questions)} questions."


if __name__ == "__main__":
    main()
