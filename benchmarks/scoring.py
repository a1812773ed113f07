"""Teacher-forcing and JS of a whole study: naive, generic, and packed scoring.

    python -m benchmarks.scoring --out benchmarks/results/scoring.md

On a GPU: Qwen2.5-7B's shape with random weights at the published size (220 responses under 11 personas). Slow ways run
on a part and are extrapolated by response tokens, as the table says. On a CPU, or with --embedded: the whole embedded
study on the embedded model. Everything is timed in the same process with the model loaded. Ratios are relative to the
naive way: prompts and responses padded to one batch per response, all logits in float32, all pairs.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from benchmarks.embedded_study import embedded_study
from benchmarks.js import published_way
from benchmarks.published_size import published_work, random_model
from benchmarks.reporting import heading, table
from persona_assets.checkpoints.shape import QWEN_7B, SMOLLM_135M, Shape
from persona_assets.inference import (
    LoadedModel,
    PrefixScorer,
    Scored,
    Scorer,
    TransformersGenerator,
    last_token_states,
    measured,
)
from persona_assets.inference.scoring.fused import FusedScorer
from persona_assets.inference.scoring.packed import PackedScorer
from persona_assets.metrics import ResponseDivergence, compile_ahead, divergence_of_response

Work = list[list[Scored]]
# Rows and columns of the matrix product whose speed determines the floor.
LARGE = 8192


def naive_logits(loaded: LoadedModel, scored: Scored) -> Tensor:
    """Return (K, T, V) float32 logits from one left-padded batch of prompts and responses, without reuse."""
    prompts, response = scored
    longest = max(map(len, prompts))
    rows = [[0] * (longest - len(prompt)) + [*prompt, *response] for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * (len(prompt) + len(response)) for prompt in prompts]
    ids, attention = (torch.tensor(values, device=loaded.device) for values in (rows, mask))
    places = (attention.cumsum(1) - 1).clamp_min(0)
    with torch.inference_mode():
        logits: Tensor = loaded.model(
            input_ids=ids, attention_mask=attention, position_ids=places, use_cache=False
        ).logits
    return logits[:, longest - 1 : -1].float()


def naive(loaded: LoadedModel, responses: Sequence[Scored]) -> list[ResponseDivergence]:
    """Compute JS of every response; results are discarded, because this is only timed."""
    for scored in responses:
        published_way(naive_logits(loaded, scored)).mean(0).double().cpu()
    return []


def by(scorer: Scorer, generator: int, responses: Sequence[Scored]) -> list[ResponseDivergence]:
    return [divergence_of_response(pieces, generator) for pieces in scorer.logits(responses)]


def tokens(work: Work) -> int:
    return sum(len(scored.response) for responses in work for scored in responses)


def flops(shape: Shape, work: Work) -> float:
    """Return the least matrix products and attention of any way: prompts once per question, responses per scorer."""
    every = [scored for responses in work for scored in responses]
    prompts = {tuple(prompt) for scored in every for prompt in scored.prompts}
    read = sum(shape.forward_flops(len(prompt) - 1, with_logits=False) for prompt in prompts)
    return read + sum(
        shape.forward_flops(len(scored.response), len(prompt) - 1) for scored in every for prompt in scored.prompts
    )


def large_product(device: str, dtype: torch.dtype) -> float:
    """Return the FLOP/s of one large matrix product, sustained for two seconds on a GPU."""
    size = LARGE if device == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < (2 if device == "cuda" else 1):
        for _ in range(10):
            left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        done += 10
    return 2 * size**3 * done / (time.perf_counter() - start)


def timed(run: Callable[[], object], device: str) -> tuple[float, float]:
    """Return seconds and peak GiB."""
    with measured(device) as cost:
        run()
    return cost.seconds, cost.peak_memory_gib


def main() -> None:
    arguments = _arguments()
    if arguments.first_generator:
        print(f"first generator {_first_generator():.2f}")
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    published = device == "cuda" and not arguments.embedded
    loaded, work = _random() if published else _embedded()
    shape = QWEN_7B if published else SMOLLM_135M
    fastest = large_product(device, loaded.model.dtype)
    floor = flops(shape, work) / fastest
    whole = tokens(work)
    rows, seconds = list[dict[str, object]](), list[float]()
    matrices: dict[str, list[list[ResponseDivergence]]] = {}

    def row(name: str, run: Callable[[int, list[Scored]], list[ResponseDivergence]], part: int) -> None:
        """Time all of the work, or the first `part` responses of two generators after a warm-up run."""
        chosen = work if part >= len(work[0]) else [responses[:part] for responses in work[:2]]
        for generator, responses in enumerate(chosen if chosen is not work else [work[0][:2]]):
            run(generator, responses)
        kept: list[list[ResponseDivergence]] = []

        def everything() -> None:
            for generator, responses in enumerate(chosen):
                kept.append(run(generator, responses))

        taken, memory = timed(everything, device)
        share = tokens(chosen) / whole
        extrapolated = taken / share
        seconds.append(extrapolated)
        matrices[name] = kept
        rows.append(
            {
                "way": name,
                "seconds": f"{extrapolated:.1f}" + ("" if share == 1 else f" (from {share:.0%})"),
                "ratio": f"{seconds[0] / extrapolated:.3g} ×",
                "response tokens/s": f"{whole / extrapolated * len(work[0][0].prompts):,.0f}",
                "TFLOP/s": f"{flops(shape, chosen) / taken / 1e12:.3g}",
                "share of the floor": f"{floor / extrapolated:.0%}",
                "peak memory (GiB)": f"{memory:.1f}" if device == "cuda" else "–",
            }
        )
        print(rows[-1], flush=True)

    every = len(work[0])
    slow = arguments.part if published else every
    row("naive: padded batch, float32 logits, JS by hand", lambda _, responses: naive(loaded, responses), slow)
    generic = PrefixScorer(loaded)
    row("generic: Transformers, prompts' keys cached", lambda g, r: by(generic, g, r), slow)
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.scoring`, {heading()}\n"
    if device == "cuda":
        general = PackedScorer(loaded)
        row("packed: no padding, Transformers' modules", lambda g, r: by(general, g, r), every)
        packed = FusedScorer(loaded)
        row("**packed and fused (the default)**", lambda g, r: by(packed, g, r), every)
        alone: Scorer = FusedScorer(loaded, deterministic=True)
        row("packed, `deterministic: true`", lambda g, r: by(alone, g, r), every - 1 if published else every)
        text += f"{packed.plan['scorer']}, {packed.plan['positions_at_once']} positions of logits; "
        text += f"clocks afterwards: {heading().partition('found: ')[2].partition(')')[0]}.\n"
    else:
        alone = PrefixScorer(loaded, deterministic=True)
        row("generic, `deterministic: true`", lambda g, r: by(alone, g, r), every)
    text += (
        f"{whole:,} response tokens under {len(work[0][0].prompts)} personas. Floor: "
        f"{flops(shape, work) / 1e15:.2g} PFLOP "
        f"at {fastest / 1e12:.3g} TFLOP/s, the sustained speed of one large product here, is {floor:.1f} s.\n\n"
    )
    text += table(rows) + "\n"
    text += "\n" + _agreement(matrices) + "\n"
    if published:
        text += "\n" + _start() + "\n"
        text += "\n" + _centroids(loaded, work) + "\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


def _agreement(ways: dict[str, list[list[ResponseDivergence]]]) -> str:
    """Compare each way's JS per token with scoring every sequence alone, and the ranks of the pairs."""
    names = [name for name in ways if not name.startswith("naive")]
    alone = names[-1]
    lines = []
    for name in names[:-1]:
        gaps, matrices = [], ([], [])
        for found, expected in zip(ways[name], ways[alone], strict=False):
            for one, other in zip(found, expected, strict=False):
                gaps.append(np.abs(one.token_js - other.token_js).ravel())
                matrices[0].append(one.js)
                matrices[1].append(other.js)
        gap = np.concatenate(gaps)
        upper = np.triu_indices(len(matrices[0][0]), 1)
        one, other = (np.mean(side, axis=0)[upper] for side in matrices)
        moved = int((rankdata(one) != rankdata(other)).sum())
        lines.append(
            {
                "way": name,
                "largest difference per token": f"{gap.max():.1e}",
                "median": f"{statistics.median(gap):.1e}",
                "largest in the matrix": f"{np.abs(one - other).max():.1e}",
                "JS in the matrix": f"{one.min():.4f}–{one.max():.4f}",
                "pairs whose rank changes": f"{moved} of {len(one)}",
            }
        )
    return f"JS compared with scoring each sequence alone ({alone.strip('*')}), in nats:\n\n{table(lines)}"


def _start() -> str:
    """Return the initial cost of a new process: the first generator, with and without compiled kernels in the cache."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            result = subprocess.run(
                [sys.executable, "-m", "benchmarks.scoring", "--first-generator"],
                env=os.environ | {"TRITON_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            found.append(result.stdout.split("first generator")[1].strip())
    return (
        f"The first generator in a new process, model loaded: {found[0]} s without compiled code in the cache, "
        f"{found[1]} s with it."
    )


def _first_generator() -> float:
    loaded, work = _random()

    def first() -> None:
        compile_ahead(len(work), loaded.vocabulary, loaded.model.dtype, loaded.device)
        by(FusedScorer(loaded), 0, work[0])

    return timed(first, "cuda")[0]


def _centroids(loaded: LoadedModel, work: Work) -> str:
    groups = [[scored.prompts[persona] for scored in work[0]] for persona in range(len(work))]
    taken = [
        timed(lambda: [last_token_states(loaded, group, [10, 15, 20, 25]) for group in groups], "cuda")[0]
        for _ in range(2)
    ]
    count = sum(map(len, groups))
    first, then = taken
    return f"Hidden states of {count} prompts, a persona at a time: {then:.2f} s ({first:.2f} s the first time)."


def _random() -> tuple[LoadedModel, Work]:
    loaded = random_model()
    return loaded, published_work(loaded.model.config.vocab_size)


def _embedded() -> tuple[LoadedModel, Work]:
    """Return the embedded study: greedy responses of every persona to every question."""
    study, loaded = embedded_study()
    prompts = [
        [loaded.chat.prompt_ids(prompt, question) for prompt in study.prompts.values()] for question in study.questions
    ]
    assert study.decoding
    written = TransformersGenerator(loaded).generate(
        [each for of_question in prompts for each in of_question], study.decoding
    )
    personas = len(study.personas)
    return loaded, [
        [Scored(prompts[q], written[q * personas + persona].token_ids) for q in range(len(prompts))]
        for persona in range(personas)
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scoring.md"))
    parser.add_argument("--part", type=int, default=4, help="on a GPU, responses of two generators for the slow ways")
    parser.add_argument("--embedded", action="store_true", help="use the embedded model even if there is a GPU")
    parser.add_argument("--first-generator", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
