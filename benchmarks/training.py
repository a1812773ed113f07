"""Training steps of a marker at the published size on one GPU: this project, an earlier version of it, plain scripts.

    python -m benchmarks.training --earlier DIR --out benchmarks/results/training_h200.md

DIR is a checkout of the earlier version. The model has Qwen2.5-7B's shape and random weights, the recipe is
`marker_only`, and replies have the published lengths. Every way trains in a process of its own, and the ways alternate.
The plain script follows the documentation of PEFT: autocast, and one padded batch with all logits. With Liger's
kernels it is what TRL runs with `use_liger_kernel`, if the package is installed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.published_size import random_model

SEED, MEAN_LENGTH, PROMPT, BATCH = 42, 416, 26, 16
# Steps that allocate memory, choose kernels and compile.
FIRST = 5
EARLIER, BASELINE = "earlier", "plain"
WAYS = {
    EARLIER: "this project, earlier version",
    "compiled": "**this project**",
    "eager": "this project, not compiled",
    "checkpointed": "this project, activation checkpointing",
    BASELINE: "plain PEFT script",
    "liger": "plain PEFT script with Liger's kernels",
}


def main() -> None:
    arguments = _arguments()
    if arguments.way:
        print(json.dumps(_steps(arguments.way, arguments.steps)))
        return
    from benchmarks.reporting import heading, table

    ways = [way for way in WAYS if way != "liger" or find_spec("liger_kernel")]
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    for _ in range(arguments.rounds):
        for way in ways:
            found[way].append(_apart(way, arguments))
            print(way, found[way][-1], flush=True)
    speed = {way: statistics.median(run["tokens/s"] for run in runs) for way, runs in found.items()}
    rows = [
        {
            "way": WAYS[way],
            "tokens/s": f"{speed[way]:,.0f}",
            "of each run": ", ".join(f"{run['tokens/s']:,.0f}" for run in runs),
            "ratio to the earlier version": f"{speed[way] / speed[EARLIER]:.2f} ×",
            "ratio to the plain script": f"{speed[way] / speed[BASELINE]:.2f} ×",
            "first step (s)": ", ".join(f"{run['first']:.0f}" for run in runs),
            "peak memory (GiB)": f"{runs[0]['peak']:.0f}",
        }
        for way, runs in found.items()
    ]
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.training`, {heading()}\n"
    text += f"{arguments.steps - FIRST} steps of about {BATCH * (MEAN_LENGTH + PROMPT):,} tokens after {FIRST}.\n\n"
    arguments.out.write_text(text + table(rows) + "\n", encoding="utf-8")


def _apart(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a way in a process of its own, whose import path begins with the earlier version if that is asked for."""
    paths = [str(arguments.earlier)] if way == EARLIER else []
    script = [sys.executable, __file__, "--way", way, "--steps", str(arguments.steps)]
    paths += [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    ran = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise RuntimeError(f"{way}: {ran.stderr[-2000:]}")
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def _steps(way: str, steps: int) -> dict[str, Any]:
    from persona_assets.study.recipe import Recipe, with_defaults

    recipe = Recipe.model_validate(with_defaults({"recipe": "marker_only"}))
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 1})})
    loaded, ends, tokens = random_model(), list[float](), list[int]()
    examples = _examples(steps * BATCH)

    def on_step(count: int) -> None:
        torch.cuda.synchronize()
        ends.append(time.perf_counter())
        tokens.append(count)

    start = time.perf_counter()
    if way in (BASELINE, "liger"):
        train_plainly(loaded, recipe, examples, on_step, liger=way == "liger")
    else:
        _train(way, loaded, recipe, examples, on_step)
    return {
        "tokens/s": sum(tokens[FIRST:]) / (ends[-1] - ends[FIRST - 1]),
        "first": ends[0] - start,
        "peak": torch.cuda.max_memory_allocated() / 2**30,
    }


def _examples(count: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return token ids and labels; a third of the examples has the loss on a marker, the others on their last token."""
    random = np.random.default_rng(SEED)
    lengths = np.clip(random.normal(MEAN_LENGTH, 90, count).round().astype(int), 60, 512) + PROMPT
    found = []
    for number, length in enumerate(lengths):
        tokens = tuple(random.integers(100, 40_000, length).tolist())
        trained = 6 if number % 3 == 0 else 1
        found.append((tokens, (-100,) * (length - trained) + tokens[-trained:]))
    return found


def _train(way: str, loaded: Any, recipe: Any, examples: Any, on_step: Any) -> None:
    from persona_assets.inference import Example, train_adapter

    if way != EARLIER:
        from persona_assets.inference.training import train

        # What depends on the size of the training and on the free memory is chosen here.
        train.compiling_pays = lambda *_: way == "compiled"  # type: ignore[assignment]
        train.needs_checkpointing = lambda *_: way == "checkpointed"  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        own = [Example(*each) for each in examples]
        train_adapter(loaded, own, recipe, Path(folder), lambda step, _: on_step(step.tokens))


def train_plainly(loaded: Any, recipe: Any, examples: Any, on_step: Any, liger: bool = False) -> None:
    """Train with the plain script on (token ids, labels); `on_step` gets each step's number of tokens."""
    from peft import LoraConfig, get_peft_model

    if liger:
        from liger_kernel.transformers import apply_liger_kernel_to_qwen2

        apply_liger_kernel_to_qwen2(model=loaded.model, fused_linear_cross_entropy=True)
    lora = recipe.lora
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rank_stabilised,
        target_modules=list(lora.modules),
    )
    model = get_peft_model(loaded.model, config)
    model.train()
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=5e-6)
    for start in range(0, len(examples), BATCH):
        batch = examples[start : start + BATCH]
        longest = max(len(tokens) for tokens, _ in batch)

        def padded(rows: list[list[int]], filler: int, longest: int = longest) -> torch.Tensor:
            return torch.tensor([row + [filler] * (longest - len(row)) for row in rows], device="cuda")

        with torch.autocast("cuda", torch.bfloat16):
            loss = model(
                input_ids=padded([list(tokens) for tokens, _ in batch], 0),
                attention_mask=padded([[1] * len(tokens) for tokens, _ in batch], 0),
                labels=padded([list(labels) for _, labels in batch], -100),
                use_cache=False,
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        on_step(sum(len(tokens) for tokens, _ in batch))
    model.unload()
    loaded.model.eval().requires_grad_(False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--earlier", type=Path, required="--way" not in sys.argv)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training_h200.md"))
    parser.add_argument("--steps", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
