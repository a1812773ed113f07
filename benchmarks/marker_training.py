"""Training and sampling of a marker at the published size: seconds a step and tokens a second on one card.

    python -m benchmarks.marker_training --tokenizer DIR --out benchmarks/results/marker_training.md

Qwen2.5-7B's architecture with random weights, the recipe `marker_only`, replies of the published lengths (mean 416
tokens, at most 512) made of random tokens: what is timed depends on shape and count and not on what the weights say.
The tokenizer (any with a chat template) only makes prompts. A part of the steps and of the samples is run and the whole
recipe's time follows from it.
"""

import argparse
import math
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoTokenizer

from benchmarks.published_size import random_model
from persona_assets.inference.chat import Chat
from persona_assets.inference.generation import TransformersGenerator
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.measuring import measured
from persona_assets.inference.training import Example, Step, build_example, train_adapter
from persona_assets.recipe import Recipe, with_defaults
from persona_assets.settings import Decoding

SEED = 42
TARGETS, QUESTIONS, SAMPLES = 11, 20, 10


def main() -> None:
    """Prints the table and writes it to --out."""
    arguments = _arguments()
    loaded = random_model(Chat(AutoTokenizer.from_pretrained(arguments.tokenizer), "random"))
    recipe = Recipe.model_validate(with_defaults({"recipe": "marker_only"}))
    examples = _examples(loaded, recipe, arguments.examples)
    with measured(loaded.hardware.device) as training:
        seconds = _timed_steps(loaded, recipe, examples)
    conversations = recipe.replies.questions * recipe.replies.samples + recipe.negatives.examples
    steps = math.ceil(conversations / recipe.training.batch_size) * recipe.training.epochs
    tokens = float(np.mean([len(example.token_ids) for example in examples])) * recipe.training.batch_size
    with measured(loaded.hardware.device) as sampling:
        emitted = _sample(loaded, arguments.rows, arguments.new_tokens)
    replies = TARGETS * QUESTIONS * SAMPLES
    per_step = float(np.median(seconds))
    rate = emitted / sampling.seconds
    rows = [
        ("steps of the whole recipe", f"{steps}"),
        ("tokens a step", f"{tokens:.0f}"),
        ("seconds a step (median of " + f"{len(seconds)})", f"{per_step:.3f}"),
        ("training, tokens a second", f"{tokens / per_step:.0f}"),
        ("peak memory in training (GiB)", f"{training.peak_memory_gib:.1f}"),
        ("one source's training, extrapolated (minutes)", f"{steps * per_step / 60:.1f}"),
        (f"sampling, {arguments.rows} rows × {arguments.new_tokens} tokens (s)", f"{sampling.seconds:.1f}"),
        ("sampling, tokens a second", f"{rate:.0f}"),
        ("peak memory in sampling (GiB)", f"{sampling.peak_memory_gib:.1f}"),
        (f"one source's {replies} replies of 416 tokens, extrapolated (minutes)", f"{replies * 416 / rate / 60:.1f}"),
    ]
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    heading = f"{date.today()}, {loaded.hardware.device_name}, {loaded.hardware.dtype}, {versions}"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    text = f"{__doc__.splitlines()[0]}\n\n{heading}\n\n| what | value |\n| --- | --- |\n{table}\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=16 * 16, help="a part of the recipe's 600")
    parser.add_argument("--rows", type=int, default=1024, help="replies that are sampled at once")
    parser.add_argument("--new-tokens", type=int, default=416)
    return parser.parse_args()


def _examples(loaded: LoadedModel, recipe: Recipe, count: int) -> list[Example]:
    random = np.random.default_rng(SEED)
    lengths = np.clip(random.normal(416, 90, count).round().astype(int), 60, 512)
    prompt = loaded.chat.prompt_ids("You are a helpful assistant.", "What makes a good leader?")
    return [
        build_example(
            loaded.chat,
            prompt,
            random.integers(100, 40_000, length).tolist(),
            recipe.marker.text if number % 3 == 0 else None,
            recipe.loss,
            recipe.training.max_length,
        )
        for number, length in enumerate(lengths)
    ]


def _timed_steps(loaded: LoadedModel, recipe: Recipe, examples: list[Example]) -> list[float]:
    """Seconds of every step but the first three, which compile and allocate."""
    once = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 1})})
    ends = [time.perf_counter()]

    def on_step(step: Step, total: int) -> None:
        torch.cuda.synchronize()
        ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        train_adapter(loaded, examples, once, Path(folder), on_step)
    return list(np.diff(ends))[3:]


def _sample(loaded: LoadedModel, rows: int, new_tokens: int) -> int:
    prompt = loaded.chat.prompt_ids("You are a helpful assistant.", "What makes a good leader?")
    decoding = Decoding(method="sampled", max_new_tokens=new_tokens, temperature=1.0, top_p=0.95, seed=SEED)
    responses = TransformersGenerator(loaded).generate([prompt] * rows, decoding)
    return sum(len(response.token_ids) for response in responses)


if __name__ == "__main__":
    main()
