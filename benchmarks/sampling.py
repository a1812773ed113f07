"""Sampling of replies on a CPU against `generate` of Transformers: the same tokens, and how much faster.

    OMP_NUM_THREADS=1 python -m benchmarks.sampling --out benchmarks/results/sampling.md

Both sample the embedded study's replies with the embedded model: every persona, question and sample, 40 tokens at
temperature 1. `generate` is what the package used before it had a loop of its own: it reads every prompt, keeps all
rows until the last one ends, copies keys and values at every token, repeats them for every query head, and its sampler
computes in float64. The two alternate in one process. Times of the processor are reported beside those of the clock,
because other programs may run on the machine.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.embedded_study import embedded_study
from benchmarks.reporting import heading, table
from persona_assets.inference import LoadedModel, TransformersGenerator
from persona_assets.inference.sampling import draw_in_float64, row_seeds
from persona_assets.study.settings import Decoding

Tokens = list[tuple[int, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sampling.md"))
    arguments = parser.parse_args()
    study, loaded = embedded_study("cpu")
    questions = study.questions[: arguments.questions]
    prompts = [
        loaded.chat.prompt_ids(prompt, question)
        for prompt in study.prompts.values()
        for question in questions
        for _ in range(arguments.samples)
    ]
    decoding = Decoding(method="sampled", max_new_tokens=40, seed=42)
    generator = TransformersGenerator(loaded)
    ways: dict[str, Callable[[], Tokens]] = {
        "generate of Transformers": lambda: by_transformers(loaded, prompts, decoding),
        "this package": lambda: [reply.token_ids for reply in generator.generate(prompts, decoding)],
    }
    generator.generate(prompts[:2], decoding)  # the first call prepares kernels
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    found: dict[str, Tokens] = {}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            start = time.process_time(), time.perf_counter()
            found[name] = way()
            seconds[name].append((time.process_time() - start[0], time.perf_counter() - start[1]))
            print(name, seconds[name][-1], flush=True)
    median = {name: np.median(np.array(each), axis=0) for name, each in seconds.items()}
    first = next(iter(ways))
    rows = [
        {
            "way": name,
            "processor (s)": f"{median[name][0]:.1f}",
            "ratio": f"{median[first][0] / median[name][0]:.2f} ×",
            "clock (s)": f"{median[name][1]:.1f}",
            "ratio of clocks": f"{median[first][1] / median[name][1]:.2f} ×",
        }
        for name in ways
    ]
    tokens = sum(map(len, found[first]))
    same = sum(a == b for a, b in zip(*found.values(), strict=True))
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.sampling --questions {len(questions)} "
    text += f"--samples {arguments.samples} --rounds {arguments.rounds}`, {heading()}\n"
    text += f"{len(prompts)} replies to {len(set(map(tuple, prompts)))} prompts, {tokens:,} tokens, medians of "
    text += f"{arguments.rounds} alternating rounds.\n\n{table(rows)}\n\nThe same tokens: {same} of {len(prompts)} "
    text += "replies.\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


@torch.inference_mode()
def by_transformers(loaded: LoadedModel, prompts: Sequence[Sequence[int]], decoding: Decoding) -> Tokens:
    """Generate with Transformers' loop and a sampler in float64: the reference for time and tokens."""
    from transformers import GenerationConfig, LogitsProcessorList, TemperatureLogitsWarper, TopPLogitsWarper

    stop, longest = loaded.stop_ids, max(map(len, prompts))
    streams = [torch.Generator().manual_seed(seed) for seed in row_seeds(decoding.seed, range(len(prompts)))]

    def sample(ids: Tensor, scores: Tensor) -> Tensor:
        scores = TemperatureLogitsWarper(decoding.temperature)(ids, scores)
        if decoding.top_p < 1:
            scores = TopPLogitsWarper(decoding.top_p)(ids, scores)
        drawn = torch.cat([torch.rand(1, generator=each, dtype=torch.float64) for each in streams])
        return torch.full_like(scores, -torch.inf).scatter_(1, draw_in_float64(scores, drawn)[:, None], 0.0)

    output = loaded.model.generate(
        torch.tensor([[stop[0]] * (longest - len(prompt)) + list(prompt) for prompt in prompts]),
        attention_mask=torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]),
        generation_config=GenerationConfig(
            max_new_tokens=decoding.max_new_tokens, do_sample=False, eos_token_id=stop, pad_token_id=stop[0]
        ),
        logits_processor=LogitsProcessorList([sample] if decoding.method == "sampled" else []),
    )[:, longest:].tolist()
    ends = [next((place for place, token in enumerate(ids) if token in stop), len(ids)) for ids in output]
    return [tuple(ids[: end + 1]) for ids, end in zip(output, ends, strict=True)]


if __name__ == "__main__":
    main()
