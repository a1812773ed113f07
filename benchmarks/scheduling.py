"""Simulation of a scheduler with many personas, checkpoints and GPUs, in virtual time.

    python -m benchmarks.scheduling --out benchmarks/results/scheduling.md

Times are those that `persona-assets plan` uses for Qwen2.5-7B's shape on an H200. There are two questions.

One checkpoint: its personas are assigned one at a time, to the next GPU that is free. How well are the GPUs used in the
study's order, with the longest responses first, and at best (no persona longer than the mean)?

Many checkpoints: one GPU per checkpoint, or all GPUs for one checkpoint after another? Checkpoints arrive at random
(Poisson), and Dagster's queue starts at most one run per second. How long does it take from arrival to the last matrix,
and how many checkpoints per hour are possible?
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from heapq import heapify, heappop, heappush
from pathlib import Path

import numpy as np

from persona_assets.checkpoints.shape import QWEN_7B
from persona_assets.planning.plan import plan
from persona_assets.planning.rates import H200, MEASURED
from persona_assets.planning.sizes import resized
from persona_assets.study.files import load_study

SEED = 42
# Response lengths differ by persona: coefficient of variation of the published eleven's mean characters.
SPREAD = 0.13
DEQUEUE = 1.0  # seconds between two runs started by Dagster's queue
LOAD = 3.0  # seconds to load 15 GB of weights from local disk to a GPU, or into a running vLLM
DRAWS = 200


@dataclass(frozen=True)
class Checkpoint:
    """Seconds of one checkpoint: once per run, once on every GPU, and per persona."""

    once: float
    each_card: float
    personas: tuple[float, ...]

    def on(self, cards: int, longest_first: bool = True) -> float:
        """Return the seconds on this many GPUs."""
        work = sorted(self.personas, reverse=True) if longest_first else self.personas
        return self.once + self.each_card + handed_out(work, cards)

    def used(self, cards: int) -> float:
        """Return the GPU seconds used, including those spent waiting for other GPUs."""
        return cards * self.on(cards)


def handed_out(work: Sequence[float], cards: int) -> float:
    """Return the seconds until the last task is done if each free GPU takes the next task."""
    free = [0.0] * cards
    heapify(free)
    for seconds in work:
        heappush(free, heappop(free) + seconds)
    return max(free)


def drawn(personas: int, random: np.random.Generator, warm: bool = True) -> Checkpoint:
    """Return a checkpoint of the published study with this many personas; `warm`: the process is already running."""
    planned = plan(resized(load_study("published"), personas), QWEN_7B)
    seconds = {stage.name: stage.seconds[H200.name] for stage in planned.stages}
    scored = seconds["logit_js"] + seconds["centroids"]
    factors = np.clip(random.normal(1, SPREAD, personas), 0.3, None)
    shares = scored * factors / personas
    once = seconds["generations"] + (0 if warm else MEASURED["rest"].value + MEASURED["vllm"].value)
    return Checkpoint(once, LOAD, tuple(shares.tolist()))


def waits(arrivals: Sequence[float], seconds: float, slots: int) -> np.ndarray:
    """Return the seconds from each arrival to its end: first come, first served, a limited number at a time."""
    free = [0.0] * slots
    heapify(free)
    started, took = -DEQUEUE, []
    for arrival in arrivals:
        started = max(arrival, heappop(free), started + DEQUEUE)
        heappush(free, started + seconds)
        took.append(started + seconds - arrival)
    return np.array(took)


def one_checkpoint() -> list[str]:
    """Return rows: personas, GPUs, speed-up in the study's order, longest first and at best, use of the GPUs."""
    rows = []
    for personas in (11, 111, 1000):
        random = np.random.default_rng(SEED)
        for cards in (2, 4, 8, 16, 64):
            ratios = []
            for _ in range(DRAWS if personas < 1000 else 10):
                case = drawn(personas, random)
                alone, best = sum(case.personas), max(sum(case.personas) / cards, max(case.personas))
                by_length = sorted(case.personas, reverse=True)
                ratios.append(
                    (
                        alone / handed_out(case.personas, cards),
                        alone / handed_out(by_length, cards),
                        alone / best,
                        case.on(1) / case.on(cards),
                    )
                )
            order, longest, best, whole = np.mean(ratios, axis=0)
            speeds = " | ".join(f"{each:.2f}" for each in (order, longest, best))
            rows.append(f"| {personas} | {cards} | {speeds} | {longest / cards:.0%} | {whole:.2f} |")
    return rows


def many_checkpoints() -> list[str]:
    """Return rows: personas, GPUs, way, load → checkpoints per hour, seconds to the result (median, 95 %)."""
    rows = []
    for personas in (11, 111):
        case = drawn(personas, np.random.default_rng(SEED))
        for cards in (2, 8, 64):
            most = cards / case.on(1)  # per second, with one GPU each and no start-up in between
            for way, seconds, slots in (("one GPU each", case.on(1), cards), ("all GPUs", case.on(cards), 1)):
                ends = []
                for load in (0.1, 0.5, 0.9):
                    random = np.random.default_rng(SEED)
                    arrivals = np.cumsum(random.exponential(1 / (load * most), 20_000))
                    if load * most * seconds / slots >= 1 or load * most * DEQUEUE >= 1:
                        ends.append("unbounded")
                        continue
                    took = waits(arrivals.tolist(), seconds, slots)[1_000:]
                    ends.append(f"{duration(np.median(took))} ({duration(np.percentile(took, 95))})")
                hourly = min(slots / seconds, 1 / DEQUEUE) * 3600
                rows.append(f"| {personas} | {cards} | {way} | {hourly:,.0f} | {' | '.join(ends)} |")
    return rows


def backlog() -> list[str]:
    """Return rows for 10,000 checkpoints at once, with 11 and with 111 personas."""
    rows = []
    for personas in (11, 111):
        case = drawn(personas, np.random.default_rng(SEED))
        for cards in (1, 8, 64):
            ends = [
                float(waits([0.0] * 10_000, seconds, slots).max())
                for seconds, slots in ((case.on(1), cards), (case.on(cards), 1))
            ]
            rows.append(f"| {personas} | {cards} | {duration(ends[0])} | {duration(ends[1])} |")
    return rows


def duration(seconds: float) -> str:
    """Format seconds briefly for a table."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def main() -> None:
    """Print the tables and write them to --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    sizes = {personas: drawn(personas, np.random.default_rng(SEED)) for personas in (11, 111, 1000)}
    text = "\n".join(
        [
            "A scheduler with many personas, checkpoints and GPUs: simulated, not measured.",
            "",
            f"`python -m benchmarks.scheduling`, {date.today()}. Seconds are those of `persona-assets plan` for the "
            "published study and Qwen2.5-7B's shape on an",
            f"H200; a persona's share varies by {SPREAD:.0%} (standard deviation, its responses' mean length). A "
            f"checkpoint takes {LOAD:.0f} s per GPU to load and, on one GPU, "
            + ", ".join(f"{duration(case.on(1))} with {personas} personas" for personas, case in sizes.items())
            + ".",
            "",
            "## One checkpoint on many GPUs",
            "",
            "Speed-up of scoring over one GPU. *At best*: the work in equal parts, or the longest persona. *Whole*: "
            "with generations on one GPU and loading.",
            "",
            "| personas | GPUs | study's order | longest first | at best | GPUs used | whole |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *one_checkpoint(),
            "",
            "## Checkpoints that arrive at random",
            "",
            "Time from arrival to the last matrix, median (95th percentile), at 10, 50 and 90 % of the most that "
            "one GPU per checkpoint can do.",
            "",
            "| personas | GPUs | way | checkpoints per hour | at 10 % | at 50 % | at 90 % |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *many_checkpoints(),
            "",
            "## 10,000 checkpoints at once",
            "",
            "| personas | GPUs | one GPU each | all GPUs for one after another |",
            "| --- | --- | --- | --- |",
            *backlog(),
            "",
        ]
    )
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
