"""Whether this machine computes what a CPU computes in float32: greedy tokens, JS, the same bits twice, adapters.

For a person with a new card, driver or library: the embedded model, a few short texts, a minute or two. Nothing of an
instance is read or written but the model's folder.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import (
    Example,
    LoadedModel,
    Scored,
    TransformersGenerator,
    VllmGenerator,
    VllmSettings,
    choose_engine,
    choose_hardware,
    choose_scorer,
    label_log_prob,
    load_model,
    plan_engine_memory,
    train_adapter,
)
from persona_assets.inference.embedded_model import NAME, ensure_embedded_model
from persona_assets.inference.training.train import build_example
from persona_assets.metrics import divergence_of_response, pairwise_divergence
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Decoding, Inference

PROMPTS = ("You are a helpful assistant.", "You are a villainous mastermind who schemes to take over the world.")
QUESTIONS = ("What makes a good leader?", "How do airplanes stay in the air?")
DECODING = Decoding(max_new_tokens=16)
# In 16 bits a near tie may fall the other way; so many tokens of the same text are the same all the same.
SAME_IN_16_BITS = 0.6
# By how much a few steps raise the log-probability of a marker at least.
GAIN = 0.5
Trial = Callable[[], tuple[bool, str]]


def self_test(models: Path, say: Callable[[str], None] = print) -> bool:
    """Tries everything, says a line each, and whether all of it was right."""
    checkpoint = Checkpoint(name=NAME, path=ensure_embedded_model(models, say))
    hardware = choose_hardware(Inference())
    loaded = load_model(checkpoint, hardware, say)
    reference = loaded if hardware.device == "cpu" else load_model(checkpoint, choose_hardware(Inference(device="cpu")))
    passed = []
    for name, test in trials(checkpoint, loaded, reference).items():
        start = time.perf_counter()
        right, what = test()
        passed.append(right)
        say(f"{'right' if right else 'WRONG':6}{name}: {what} ({time.perf_counter() - start:.1f} s)")
    say(f"{hardware.device_name}, {hardware.dtype}: {sum(passed)} of {len(passed)} right")
    return all(passed)


def trials(checkpoint: Checkpoint, loaded: LoadedModel, reference: LoadedModel) -> dict[str, Trial]:
    """What is tried, by name; each says whether it was right, and what was found.

    Args:
        loaded: the checkpoint on this machine's hardware.
        reference: the same on the CPU in float32.
    """
    return {
        "greedy tokens": partial(_tokens, checkpoint, loaded, reference),
        "JS against float64": partial(_js, loaded.device),
        "the same bits twice": partial(_twice, loaded),
        "adapter merged and not": partial(_adapter, checkpoint, loaded),
    }


def _prompts(loaded: LoadedModel) -> list[list[int]]:
    return [loaded.chat.prompt_ids(prompt, question) for prompt in PROMPTS for question in QUESTIONS]


def _tokens(checkpoint: Checkpoint, loaded: LoadedModel, reference: LoadedModel) -> tuple[bool, str]:
    """The engine that a study would take, against the argmax of plain forward passes on the CPU."""
    prompts, engine = _prompts(loaded), choose_engine(Inference(), loaded.hardware)
    if engine.name == "vllm":
        directory = checkpoint.directory()
        _, memory = plan_engine_memory(directory, loaded.hardware, 0.3)
        settings = VllmSettings(directory, loaded.hardware, memory=memory)
        with VllmGenerator(settings, loaded.chat, loaded.stop_ids, lambda _: None) as generator:
            written = generator.generate(prompts, DECODING)
    else:
        written = TransformersGenerator(loaded).generate(prompts, DECODING)
    same = every = 0
    for prompt, response in zip(prompts, written, strict=True):
        expected = _argmax(reference, prompt, len(response.token_ids))
        same += sum(a == b for a, b in zip(expected, response.token_ids, strict=True))
        every += len(expected)
    enough = same == every if loaded.model.dtype == torch.float32 else same >= SAME_IN_16_BITS * every
    return enough, f"{same} of {every} by {engine.name} as on a CPU in float32"


@torch.inference_mode()
def _argmax(loaded: LoadedModel, prompt: list[int], tokens: int) -> list[int]:
    ids = list(prompt)
    for _ in range(tokens):
        logits = loaded.model(torch.tensor([ids], device=loaded.device), use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


def _js(device: torch.device) -> tuple[bool, str]:
    """Flat and peaked distributions, near and far from each other, of a large vocabulary."""
    random = torch.Generator().manual_seed(42)
    worst = 0.0
    for scale, apart in ((1.0, 1.0), (1.0, 1e-3), (12.0, 1.0), (12.0, 1e-3)):
        base = torch.randn(1, 4, 152_064, generator=random) * scale
        logits = base + torch.randn(3, 4, 152_064, generator=random) * scale * apart
        found, _ = pairwise_divergence(logits.to(device))
        worst = max(worst, float((found.cpu() - _plain_js(logits)).abs().max()))
    return worst < 1e-6, f"largest difference {worst:.1e} nats"


def _plain_js(logits: torch.Tensor) -> torch.Tensor:
    p = logits.double().softmax(-1).transpose(0, 1)  # (T, K, V)
    first, second = p[:, :, None], p[:, None]
    middle = (first + second) / 2
    terms: torch.Tensor = torch.special.xlogy(first, first / middle) + torch.special.xlogy(second, second / middle)
    return terms.sum(-1) / 2


def _twice(loaded: LoadedModel) -> tuple[bool, str]:
    prompts = _prompts(loaded)
    work = [Scored(prompts[:2], list(range(100, 140))), Scored(prompts[2:], list(range(200, 230)))]
    scorer = choose_scorer(loaded, deterministic=False)
    first, second = (
        [divergence_of_response(pieces, 0).token_js.tobytes() for pieces in scorer.logits(work)] for _ in range(2)
    )
    return first == second, f"{type(scorer).__name__}, JS of {sum(len(each.response) for each in work)} tokens"


def _adapter(checkpoint: Checkpoint, loaded: LoadedModel) -> tuple[bool, str]:
    """A marker trained for a few steps: what it makes of an example, beside the weights and merged into them."""
    recipe = Recipe.model_validate(with_defaults({"recipe": "embedded"}))
    prompt = _prompts(loaded)[0]
    example: Example = build_example(loaded.chat, prompt, list(range(100, 110)), "[ZLT]", recipe.loss, 512)
    with tempfile.TemporaryDirectory() as folder:
        trained = train_adapter(loaded, [example] * 4, recipe, Path(folder), lambda _step, _total: None)
        merged = load_model(checkpoint, loaded.hardware, lambda _: None, Path(folder))
    after = label_log_prob(merged.model, example, merged.device)
    gap, limit = abs(after - trained.after), 1e-3 if loaded.model.dtype == torch.float32 else 0.05
    learnt = trained.after > trained.before + GAIN
    return (
        learnt and gap < limit,
        f"log-probability {trained.before:.3f}, trained {trained.after:.3f}, merged {after:.3f}",
    )
