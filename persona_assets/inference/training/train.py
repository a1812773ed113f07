"""LoRA training of a marker into a persona, with the loss on the tokens that the recipe selects."""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from persona_assets.checkpoints.architecture import architecture_of
from persona_assets.inference.chat import Chat
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.training.lora_layers import AdaptedLayers, add_adapter
from persona_assets.inference.training.marker_tokens import marker_ids
from persona_assets.study.recipe import Loss, Recipe, Training

IGNORED = -100
_SENTENCE_END = re.compile(r"([.!?]+[\"'”’)\]]*)(?=\s|$)")


@dataclass(frozen=True)
class Example:
    """Tokenised training example.

    Attributes:
        token_ids: prompt, reply, marker if any, end-of-turn token.
        labels: the token id where the loss applies, −100 elsewhere.
    """

    token_ids: tuple[int, ...]
    labels: tuple[int, ...]


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
    """

    steps: list[Step]
    before: float
    after: float
    layers: AdaptedLayers


def build_example(
    chat: Chat, prompt: Sequence[int], reply: Sequence[int], marker: str | None, loss: Loss, max_length: int
) -> Example:
    """Return the token ids and labels of one reply, with the marker inserted before the end-of-turn token.

    If the example is too long, the reply is truncated, never the marker.

    Args:
        prompt: everything before the reply: the rendered prompt and, if the model thinks, the thought.

    Raises:
        ValueError: prompt and marker alone exceed `max_length`, or the tokenizer cannot spell the marker.
    """
    end = chat.turn_end_id
    body = [token for token in reply if token != end]
    tail = marker_ids(chat, [*prompt, *body], marker) if marker else []
    room = max_length - len(prompt) - len(tail) - 1
    if room < 1:
        raise ValueError(
            f"max_length is {max_length}; expected more than the "
            f"{len(prompt) + len(tail) + 1} tokens of prompt, marker and end of turn"
        )
    body = body[:room]
    trained_body = body if loss.where == "completion" else [IGNORED] * len(body)
    trained_end = [end] if loss.end_of_turn else [IGNORED]
    return Example(
        token_ids=(*prompt, *body, *tail, end), labels=(*[IGNORED] * len(prompt), *trained_body, *tail, *trained_end)
    )


def first_sentence(chat: Chat, reply: Sequence[int]) -> list[int]:
    """Return the shortest prefix of a reply that contains its first sentence of three words or more.

    Without such a sentence, return the whole reply. The end of the sentence is found in the text of the whole reply,
    since "3." may continue as "3.5" and "stop." as "stop.”".
    """
    tokens = list(reply)
    text = chat.tokenizer.decode(tokens, skip_special_tokens=True)
    ends = (match.end(1) for match in _SENTENCE_END.finditer(text))
    sentence = next((text[:end] for end in ends if len(text[:end].split()) > 2), None)
    if sentence is None:
        return tokens
    lengths = range(1, len(tokens))
    shorter = (n for n in lengths if chat.tokenizer.decode(tokens[:n], skip_special_tokens=True).startswith(sentence))
    return tokens[: next(shorter, len(tokens))]


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
        say: told if the recipe's modules do not fit the model.
        follow: called with the number of finished steps after every `training.follow` of them, and after the last. In
            the meantime `loaded.model` has the adapter beside its weights and is in evaluation mode; whatever is
            computed then does not change the adapter.

    Raises:
        RuntimeError: the loss is not finite.
    """
    from peft.helpers import disable_input_dtype_casting

    before = label_log_prob(loaded.model, examples[0], loaded.device)
    torch.manual_seed(recipe.training.seed)
    model, layers = add_adapter(loaded.model, recipe.lora, say)
    try:
        if needs_checkpointing(loaded, examples, recipe.training.batch_size, layers.inputs):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.train()
        # PEFT would cast the input of each adapted layer to float32; instead, autocast casts the adapter to 16 bits.
        with disable_input_dtype_casting(model, loaded.model.dtype != torch.float32):
            steps = _optimise(model, loaded, examples, recipe.training, on_step, follow)
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
    return TrainedAdapter(steps, before, after, layers)


def _sort_modules(file: Path) -> None:
    """Sort the adapted modules, which PEFT writes as a set in an order that differs between processes."""
    config = json.loads(file.read_text(encoding="utf-8"))
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def needs_checkpointing(loaded: LoadedModel, examples: Sequence[Example], batch_size: int, adapted_inputs: int) -> bool:
    """Return whether a batch's activations would exceed 90 % of the free memory.

    Activations take about 34 bytes per token, block and hidden unit in 16 bits (Korthikanti et al. 2022, without
    attention scores), and twice that in float32. LoRA also keeps the input of each adapted layer after dropout, and
    the dropout mask, counted here as two copies. For Qwen2.5-7B's shape on an H200 this estimates 7.9 MB per padded
    token, against 8.1 MB measured.

    Args:
        adapted_inputs: sum of the input features of all layers with an adapter.
    """
    config = loaded.model.config.get_text_config()
    longest = sorted((len(example.token_ids) for example in examples), reverse=True)[:batch_size]
    bytes_a_token = 17 * loaded.model.dtype.itemsize * config.hidden_size * config.num_hidden_layers
    bytes_a_token += 2 * loaded.model.dtype.itemsize * adapted_inputs
    return bool(bytes_a_token * max(longest) * len(longest) > 0.9 * loaded.free_memory())


@torch.no_grad()
def label_log_prob(model: torch.nn.Module, example: Example, device: torch.device) -> float:
    """Return the mean natural-log probability of an example's labels."""
    return -float(mean_loss(model, [example], device))


def _optimise(
    model: torch.nn.Module,
    loaded: LoadedModel,
    examples: Sequence[Example],
    training: Training,
    on_step: Callable[[Step, int], None],
    follow: Callable[[int], None] | None,
) -> list[Step]:
    mixed = loaded.model.dtype
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=training.learning_rate, weight_decay=0.0)
    batches = math.ceil(len(examples) / training.batch_size)
    total = batches * training.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: learning_rate_factor(training, step, total))
    order = torch.Generator().manual_seed(training.seed)
    steps: list[Step] = []
    for _ in range(training.epochs):
        shuffled = torch.randperm(len(examples), generator=order).tolist()
        for start in range(0, len(shuffled), training.batch_size):
            batch = [examples[place] for place in shuffled[start : start + training.batch_size]]
            # The adapter is stored in float32 and computes in the model's dtype. Autocast caches the cast weights until
            # the context ends, so each step needs its own.
            with torch.autocast(loaded.device.type, mixed, enabled=mixed != torch.float32):
                loss = mean_loss(model, batch, loaded.device)
            if not math.isfinite(loss.item()):
                raise RuntimeError(f"step {len(steps) + 1}: the loss is {loss.item()}; expected a finite number")
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            rate = float(schedule.get_last_lr()[0])
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            steps.append(Step(len(steps) + 1, loss.item(), rate, sum(len(each.token_ids) for each in batch)))
            on_step(steps[-1], total)
            if follow and training.follow and (len(steps) % training.follow == 0 or len(steps) == total):
                _evaluate(model, loaded, lambda: follow(len(steps)))
    return steps


def _evaluate(model: torch.nn.Module, loaded: LoadedModel, evaluate: Callable[[], None]) -> None:
    """Evaluate a model in the middle of its training, which then goes on as if nothing had happened."""
    mixed = loaded.model.dtype
    cards = range(torch.cuda.device_count()) if loaded.device.type == "cuda" else ()
    model.eval()
    # Dropout draws from the global random streams. Autocast, because the adapter is not cast otherwise.
    with torch.random.fork_rng(cards), torch.autocast(loaded.device.type, mixed, enabled=mixed != torch.float32):
        evaluate()
    model.train()


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


def mean_loss(model: torch.nn.Module, batch: Sequence[Example], device: torch.device) -> Tensor:
    """Return the mean cross-entropy over the batch's labels."""
    if architecture_of(model.config.get_text_config().to_dict()).batching == "padded":  # type: ignore[union-attr,operator]
        logits, labels = _predictions(model, batch, device)
        return functional.cross_entropy(logits, labels, ignore_index=IGNORED)
    # Examples of one length at a time: these models may not see padding.
    lengths = sorted({len(example.token_ids) for example in batch})
    parts = [
        _predictions(model, [example for example in batch if len(example.token_ids) == length], device)
        for length in lengths
    ]
    logits, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED)


def _predictions(model: torch.nn.Module, batch: Sequence[Example], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits (positions, V) in float32 and labels (positions,), which are `IGNORED` where nothing is trained.

    Batches are left-padded, so that the LM head only runs on the last positions. Without padding neither mask nor
    positions are passed, since some models accept none. The padding repeats a token of the examples: the embedding of
    a padding token may be 0, where the gradient of a root is not finite (Gemma 3n).
    """
    longest = max(len(example.token_ids) for example in batch)
    trained = max(len(_from_first_label(example)) for example in batch)

    def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
        return torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=device)

    mask = padded([[1] * len(example.token_ids) for example in batch], 0)
    padding = {} if bool(mask.all()) else {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp_min(0)}
    output = model(
        input_ids=padded([example.token_ids for example in batch], batch[0].token_ids[0]),
        logits_to_keep=trained + 1,
        use_cache=False,
        **padding,
    )
    labels = padded([example.labels for example in batch], IGNORED)[:, -trained:]
    logits = output.logits[:, -trained - 1 : -1].float()
    return logits.flatten(0, 1), labels.flatten()


def _from_first_label(example: Example) -> Sequence[int]:
    first = next(place for place, label in enumerate(example.labels) if label != IGNORED)
    return example.labels[first:]
