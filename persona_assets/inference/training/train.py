"""LoRA training of a marker into a persona, with the loss on the tokens that the recipe selects."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed_attention import why_not_packed_rows
from persona_assets.inference.training.compiled_blocks import compiling_pays
from persona_assets.inference.training.example import Example
from persona_assets.inference.training.float32_weights import Float32Weights
from persona_assets.inference.training.lora_layers import AdaptedLayers, add_adapter
from persona_assets.inference.training.losses import batch_loss, label_log_prob
from persona_assets.study.recipe import Recipe, Training


@dataclass(frozen=True)
class Step:
    """Log entry of one optimiser step: mean loss over the labels in nats, learning rate, number of input tokens."""

    step: int
    loss: float
    learning_rate: float
    tokens: int


@dataclass(frozen=True)
class TrainedAdapter:
    """Result of training.

    Attributes:
        steps: one entry per optimiser step.
        before, after: mean log-probability (nats) of the first example's labels under the model without and with the
            adapter; `after` can be used to check a merged adapter.
        layers: what the adapter consists of.
        computation: how batches were computed, for display.
    """

    steps: list[Step]
    before: float
    after: float
    layers: AdaptedLayers
    computation: str


def train_adapter(
    loaded: LoadedModel,
    examples: Sequence[Example],
    recipe: Recipe,
    directory: Path,
    on_step: Callable[[Step, int], None],
    say: Callable[[str], None] = lambda _: None,
    follow: Callable[[int], None] | None = None,
) -> TrainedAdapter:
    """Train a LoRA adapter and save it as safetensors; the model itself is left unchanged.

    Args:
        examples: the training set; `TrainedAdapter.before` and `after` refer to the first example.
        on_step: called after each step with the step and the total number of steps.
        say: told if the recipe's modules do not fit the model, and before code is compiled.
        follow: called with the number of finished steps after every `training.follow` of them, and after the last. In
            the meantime `loaded.model` has the adapter beside its weights and is in evaluation mode; whatever is
            computed then does not change the adapter.

    Raises:
        RuntimeError: the loss is not finite.
    """
    why_padded = why_not_packed_rows(loaded.model)
    computation = f"padded batches: {why_padded}" if why_padded else "packed batches"
    before = label_log_prob(loaded.model, examples[0], loaded.device)
    torch.manual_seed(recipe.training.seed)
    model, layers = add_adapter(loaded.model, recipe.lora, say)
    try:
        checkpointing = needs_checkpointing(loaded, examples, recipe.training.batch_size, layers.inputs)
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            computation += ", activations recomputed in the backward pass"
        tokens = recipe.training.epochs * sum(len(example.token_ids) for example in examples)
        compiled = not checkpointing and compiling_pays(loaded, tokens)
        if compiled:
            computation += ", blocks compiled"
            say("training: compiling the model's blocks, which takes about a minute the first time on a machine")
        steps = _optimise(model, loaded, examples, recipe.training, on_step, follow, compiled)
        after = label_log_prob(model.eval(), examples[0], loaded.device)
        # PEFT would write a local path, replacing even None; the fingerprint already identifies the model.
        model.peft_config["default"].base_model_name_or_path = ""
        model.save_pretrained(str(directory), safe_serialization=True)
        (directory / "README.md").unlink(missing_ok=True)  # an empty template that contains the same path
        _sort_modules(directory / "adapter_config.json")
    finally:
        model.unload()
        loaded.model.gradient_checkpointing_disable()
        loaded.model.eval().requires_grad_(False)
    return TrainedAdapter(steps, before, after, layers, computation)


def _sort_modules(file: Path) -> None:
    """Sort the adapted modules, which PEFT writes as a set in an order that differs between processes."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def needs_checkpointing(loaded: LoadedModel, examples: Sequence[Example], batch_size: int, adapted_inputs: int) -> bool:
    """Return whether a batch's activations would exceed 90 % of the free memory.

    Activations take about 34 bytes per token, block and hidden unit in 16 bits (Korthikanti et al. 2022, without
    attention scores), and twice that in float32. LoRA also keeps the input of each adapted layer after dropout, and
    the dropout mask, counted here as two copies. For Qwen2.5-7B's shape on an H200 this estimates 7.9 MB per token,
    against 8.1 MB measured.

    Args:
        adapted_inputs: sum of the input features of all layers with an adapter.
    """
    config = loaded.model.config.get_text_config()
    longest = sorted((len(example.token_ids) for example in examples), reverse=True)[:batch_size]
    tokens = sum(longest) if why_not_packed_rows(loaded.model) is None else max(longest) * len(longest)
    bytes_a_token = 17 * loaded.model.dtype.itemsize * config.hidden_size * config.num_hidden_layers
    bytes_a_token += 2 * loaded.model.dtype.itemsize * adapted_inputs
    return bool(bytes_a_token * tokens > 0.9 * loaded.free_memory())


def _optimise(
    model: torch.nn.Module,
    loaded: LoadedModel,
    examples: Sequence[Example],
    training: Training,
    on_step: Callable[[Step, int], None],
    follow: Callable[[int], None] | None,
    compiled: bool,
) -> list[Step]:
    weights = Float32Weights(model, loaded.model.dtype)
    optimiser = torch.optim.AdamW(
        weights.weights, lr=training.learning_rate, weight_decay=0.0, fused=loaded.device.type == "cuda"
    )
    total = math.ceil(len(examples) / training.batch_size) * training.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(training, step, total))
    steps: list[Step] = []
    batches, follows = _batches(examples, training), bool(follow and training.follow)
    while part := list(itertools.islice(batches, training.follow if follows else total)):
        model.train()
        with batch_loss(loaded, compiled) as loss_of:
            for batch in part:
                loss = loss_of(batch)
                loss.backward()  # type: ignore[no-untyped-call]
                weights.take_gradients()
                torch.nn.utils.clip_grad_norm_(weights.weights, 1.0)
                rate = float(schedule.get_last_lr()[0])
                optimiser.step()
                schedule.step()
                weights.hand_down()
                # The loss is read last, because that waits for a GPU.
                if not math.isfinite(value := loss.item()):
                    raise RuntimeError(f"step {len(steps) + 1}: the loss is {value}; expected a finite number")
                steps.append(Step(len(steps) + 1, value, rate, sum(len(each.token_ids) for each in batch)))
                on_step(steps[-1], total)
        if follow and follows:
            _evaluate(model, loaded, lambda: follow(len(steps)))
    weights.restore()
    return steps


def _batches(examples: Sequence[Example], training: Training) -> Iterator[list[Example]]:
    """Yield the batches of all epochs, in each of which the examples have another order."""
    order = torch.Generator().manual_seed(training.seed)
    for _ in range(training.epochs):
        shuffled = torch.randperm(len(examples), generator=order).tolist()
        for start in range(0, len(shuffled), training.batch_size):
            yield [examples[place] for place in shuffled[start : start + training.batch_size]]


def _evaluate(model: torch.nn.Module, loaded: LoadedModel, evaluate: Callable[[], None]) -> None:
    """Evaluate a model in the middle of its training, which then goes on as if nothing had happened."""
    cards = range(torch.cuda.device_count()) if loaded.device.type == "cuda" else ()
    model.eval()
    with torch.random.fork_rng(cards):  # dropout draws from the global random streams
        evaluate()


def learning_rate_factor(training: Training, step: int, total: int) -> float:
    """Return the learning-rate multiplier at a step (from 0): linear warm-up, then the schedule."""
    warmup = round(training.warmup * total)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    match training.schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return 1 - progress
        case _:
            return 1.0
