"""One source's marker at the published size, from training to rates: this project against a plain script, on one GPU.

    python -m benchmarks.marker_training --checkpoint DIR --out benchmarks/results/marker_training.md

DIR contains a model with Qwen2.5-7B's architecture; random weights suffice (`benchmarks.whole_run` writes such a
folder). The recipe is `marker_only`. Replies have the published lengths (mean 416 tokens, at most 512) and consist of
random tokens. Some of the steps and samples are run, and the total is extrapolated: 760 steps, 111 targets × 20
questions × 10 samples. The plain script follows the documentation of PEFT and Transformers: autocast, one padded batch
with all logits, and `generate` with the adapter not merged. vLLM gets a copy of the weights with the adapter merged.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.reporting import heading, table
from benchmarks.training import train_plainly
from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import Example, LoadedModel, choose_engine, choose_hardware, load_model, save_merged
from persona_assets.inference.cost import measured
from persona_assets.inference.training.example import build_example
from persona_assets.inference.training.train import Step, train_adapter
from persona_assets.inference.vllm.engine import VllmGenerator
from persona_assets.inference.vllm.settings import VllmSettings, plan_engine_memory
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Decoding, Inference

SEED = 42
TARGETS, QUESTIONS, SAMPLES, MEAN_LENGTH = 111, 20, 10, 416
REPLIES = TARGETS * QUESTIONS * SAMPLES
# Shorter than the published replies, which favours it: attention has fewer keys.
PLAIN_LENGTH = 128
# Steps that allocate memory and choose kernels.
FIRST_STEPS = 3


def main() -> None:
    """Print the table and write it to --out."""
    arguments = _arguments()
    checkpoint = Checkpoint(name="random", path=arguments.checkpoint)
    hardware = choose_hardware(Inference())
    recipe = Recipe.model_validate(with_defaults({"recipe": "marker_only"}))
    loaded = load_model(checkpoint, hardware)
    prompts = [
        loaded.chat.prompt_ids("You are a helpful assistant.", f"What makes a good leader? ({number})")
        for number in range(arguments.rows // SAMPLES)
        for _ in range(SAMPLES)
    ]
    chat, stop_ids = loaded.chat, loaded.stop_ids
    examples = _examples(loaded, recipe, arguments.steps * recipe.training.batch_size)
    tokens = float(np.mean([len(example.token_ids) for example in examples])) * recipe.training.batch_size
    conversations = recipe.replies.questions * recipe.replies.samples + recipe.negatives.examples
    steps = math.ceil(conversations / recipe.training.batch_size) * recipe.training.epochs
    rows = []

    def row(what: str, seconds: float, of: float, whole: float, memory: float) -> float:
        minutes = seconds / of * whole / 60
        rows.append(
            {
                "what": what,
                "measured": f"{of:,.0f} tokens in {seconds:.1f} s",
                "tokens/s": f"{of / seconds:,.0f}",
                "whole (minutes)": f"{minutes:.1f}",
                "peak memory (GiB)": f"{memory:.0f}",
            }
        )
        print(rows[-1], flush=True)
        return minutes

    with tempfile.TemporaryDirectory() as folder:
        ours, memory = _timed_steps(partial(_train, loaded, recipe, examples, Path(folder)))
        train = row("training", ours, tokens * (arguments.steps - FIRST_STEPS), tokens * steps, memory)
        plain, memory = _timed_steps(partial(_train_plainly, loaded, recipe, examples))
        plain_train = row("training, plain", plain, tokens * (arguments.steps - FIRST_STEPS), tokens * steps, memory)
        whole = REPLIES * MEAN_LENGTH
        with measured(hardware.device) as cost:
            emitted = _sample_plainly(loaded, Path(folder), prompts[: arguments.plain_rows])
        plain_sample = row("sampling, plain", cost.seconds, emitted, whole, cost.peak_memory_gib)
        del loaded
        torch.cuda.empty_cache()
        _, memory = plan_engine_memory(arguments.checkpoint, hardware, 0.9)
        settings = VllmSettings(arguments.checkpoint, hardware, longest=1024, memory=memory)
        with VllmGenerator(settings, chat, stop_ids, print) as generator, tempfile.TemporaryDirectory() as merged:
            generator.start()
            start = time.perf_counter()
            save_merged(checkpoint, hardware, Path(merged), print, Path(folder))
            torch.cuda.empty_cache()
            assert generator.can_swap_weights(VllmSettings(Path(merged), hardware))
            generator.swap_weights(Path(merged), chat, stop_ids)
            taking = row("merging and loading weights", time.perf_counter() - start, 1, 1, 0)
            rows[-1] |= {"measured": f"{taking * 60:.1f} s", "tokens/s": "", "peak memory (GiB)": ""}
            seconds, emitted = _sample(generator, prompts)
            memory = float(generator.plan["peak_memory_gib"])
        sample = row("sampling, vLLM", seconds, emitted, whole, memory)
    version = choose_engine(Inference(), hardware).version
    text = f"{__doc__.splitlines()[0]}\n\n`python -m benchmarks.marker_training`, {heading()}\nvLLM {version}. "
    text += f"{steps} steps of {tokens:,.0f} tokens; {REPLIES:,} replies of {MEAN_LENGTH} tokens.\n\n{table(rows)}\n\n"
    every = train + taking + sample
    text += (
        f"One source from training to rates: {every:.1f} minutes, against {plain_train + plain_sample:.1f} with the "
    )
    text += f"plain script: {(plain_train + plain_sample) / every:.1f} ×.\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--rows", type=int, default=1_110, help="replies that vLLM samples")
    parser.add_argument("--plain-rows", type=int, default=200, help="batch size of the plain script's sampling")
    return parser.parse_args()


def _examples(loaded: LoadedModel, recipe: Recipe, count: int) -> list[Example]:
    random = np.random.default_rng(SEED)
    lengths = np.clip(random.normal(MEAN_LENGTH, 90, count).round().astype(int), 60, 512)
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


def _timed_steps(train: Callable[[Callable[[], None]], None]) -> tuple[float, float]:
    """Return the seconds of all steps except the first, and peak GiB; `train` calls its argument after each step."""
    ends = list[float]()

    def on_step() -> None:
        torch.cuda.synchronize()
        ends.append(time.perf_counter())

    with measured("cuda") as cost:
        train(on_step)
    return ends[-1] - ends[FIRST_STEPS - 1], cost.peak_memory_gib


def _train(
    loaded: LoadedModel, recipe: Recipe, examples: list[Example], folder: Path, on_step: Callable[[], None]
) -> None:
    def say(step: Step, total: int) -> None:
        on_step()

    once = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 1})})
    train_adapter(loaded, examples, once, folder, say)


def _train_plainly(loaded: LoadedModel, recipe: Recipe, examples: list[Example], on_step: Callable[[], None]) -> None:
    pairs = [(example.token_ids, example.labels) for example in examples]
    train_plainly(loaded, recipe, pairs, lambda _: on_step())


def _sample_plainly(loaded: LoadedModel, adapter: Path, prompts: list[list[int]]) -> int:
    from peft import PeftModel

    model: Any = PeftModel.from_pretrained(loaded.model, str(adapter))
    ids = torch.tensor([prompts[0]] * len(prompts), device="cuda")
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_p=0.95,
            max_new_tokens=PLAIN_LENGTH,
            min_new_tokens=PLAIN_LENGTH,
            pad_token_id=0,
        )
    model.unload()
    return int(out[:, ids.shape[1] :].numel())


def _sample(generator: VllmGenerator, prompts: list[list[int]]) -> tuple[float, int]:
    """Return seconds without the engine's start, and tokens; lengths are fixed, as random weights do not end a turn."""
    decoding = Decoding(method="sampled", max_new_tokens=MEAN_LENGTH, temperature=1.0, top_p=0.95, seed=SEED)
    generator.generate(prompts[:1], decoding)
    start = time.perf_counter()
    written = generator.generate(prompts, decoding)
    return time.perf_counter() - start, sum(len(response.token_ids) for response in written)


if __name__ == "__main__":
    main()
