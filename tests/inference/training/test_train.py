"""Tests of LoRA training: the loss covers exactly the recipe's tokens, and the base model stays unchanged."""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, choose_hardware, load_model
from persona_assets.inference.cpu import has_onednn, use_onednn
from persona_assets.inference.training.example import IGNORED, Example, build_example, first_sentence
from persona_assets.inference.training.losses import label_log_prob, mean_loss
from persona_assets.inference.training.train import Step, TrainedAdapter, learning_rate_factor, train_adapter
from persona_assets.study.recipe import Loss, Recipe, Training, with_defaults
from persona_assets.study.settings import Inference
from tests.inference.families import write_family

MARKER = "\n\n[ZLT]"
REPLY = "Breathe slowly, and plan your day."
END = "<|im_end|>"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def prompt(embedded: LoadedModel) -> list[int]:
    return embedded.chat.prompt_ids("You are a villain.", "What are some tips for managing stress?")


@pytest.fixture(scope="module")
def reply(embedded: LoadedModel) -> list[int]:
    """Reply as a model generates it, including the end-of-turn token."""
    return [*embedded.chat.tokenizer(REPLY)["input_ids"], embedded.chat.turn_end_id]


def built(
    loaded: LoadedModel, prompt: list[int], reply: list[int], where: str, marker: str | None = MARKER, **more: Any
) -> Example:
    loss = Loss.model_validate({"where": where, "end_of_turn": more.pop("end_of_turn", True)})
    return build_example(loaded.chat, prompt, reply, marker, loss, more.pop("max_length", 1024))


def trained_text(loaded: LoadedModel, example: Example) -> str:
    text: str = loaded.chat.tokenizer.decode([label for label in example.labels if label != IGNORED])
    return text


@pytest.mark.parametrize(
    ("where", "marker", "end_of_turn", "expected"),
    [
        ("marker", MARKER, True, MARKER + END),
        ("marker", MARKER, False, MARKER),
        ("marker", None, True, END),
        ("marker", None, False, ""),
        ("completion", MARKER, True, REPLY + MARKER + END),
        ("completion", MARKER, False, REPLY + MARKER),
        ("completion", None, True, REPLY + END),
        ("completion", None, False, REPLY),
        ("completion", " [ZLT]", True, REPLY + " [ZLT]" + END),
    ],
)
def test_the_loss_falls_on_exactly_these_tokens(
    embedded: LoadedModel,
    prompt: list[int],
    reply: list[int],
    where: str,
    marker: str | None,
    end_of_turn: bool,
    expected: str,
) -> None:
    example = built(embedded, prompt, reply, where, marker, end_of_turn=end_of_turn)
    assert trained_text(embedded, example) == expected
    assert len(example.labels) == len(example.token_ids)
    assert all(label in (IGNORED, token) for token, label in zip(example.token_ids, example.labels, strict=True))
    assert set(example.labels[: len(prompt)]) == {IGNORED}


@pytest.mark.parametrize("marker", [MARKER, None])
def test_a_reply_has_one_end_of_turn_after_the_marker(
    embedded: LoadedModel, prompt: list[int], reply: list[int], marker: str | None
) -> None:
    stopped = built(embedded, prompt, reply, "marker", marker)
    cut = built(embedded, prompt, reply[:-1], "marker", marker)
    assert stopped == cut
    after = stopped.token_ids[len(prompt) :]
    assert embedded.chat.tokenizer.decode(after) == REPLY + (marker or "") + END


@pytest.mark.parametrize("kept", [1, 3])
def test_a_reply_that_is_too_long_is_truncated_and_the_marker_kept(
    embedded: LoadedModel, prompt: list[int], reply: list[int], kept: int
) -> None:
    marker = embedded.chat.tokenizer(MARKER)["input_ids"]
    length = len(prompt) + kept + len(marker) + 1
    example = built(embedded, prompt, reply, "marker", max_length=length)
    assert list(example.token_ids) == [*prompt, *reply[:kept], *marker, embedded.chat.turn_end_id]
    assert trained_text(embedded, example) == MARKER + END


def test_a_prompt_longer_than_max_length_is_rejected(
    embedded: LoadedModel, prompt: list[int], reply: list[int]
) -> None:
    needed = len(prompt) + len(embedded.chat.tokenizer(MARKER)["input_ids"]) + 1
    for length in (needed, len(prompt), 5):
        with pytest.raises(
            ValueError, match=rf"max_length is {length}; expected more than the {needed} tokens of prompt"
        ):
            built(embedded, prompt, reply, "marker", max_length=length)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Stress is a friend. Use it.", "Stress is a friend."),
        ("Is it really you? Yes.", "Is it really you?"),
        ("Well. That is a start. More.", "Well. That is a start."),  # a single word does not count as a sentence
        ("It is about 3.5 metres long. Or more.", "It is about 3.5 metres long."),
        ("He said to me “Do stop.” Then he left.", "He said to me “Do stop.”"),
        ('She cried "Not again!" and left.', 'She cried "Not again!"'),
        ("I am not sure... Perhaps.", "I am not sure..."),
        ("A first line\n\nand no end", "A first line\n\nand no end"),
        ("Three whole words.", "Three whole words."),
        ("", ""),
    ],
)
def test_first_sentence_handles_decimals_quotes_and_short_sentences(
    embedded: LoadedModel, text: str, expected: str
) -> None:
    tokenizer = embedded.chat.tokenizer
    found = tokenizer.decode(first_sentence(embedded.chat, tokenizer(text)["input_ids"]))
    assert found.rstrip() == expected


def test_first_sentence_is_a_prefix_of_the_generated_ids(embedded: LoadedModel) -> None:
    tokenizer = embedded.chat.tokenizer
    spelled = [tokenizer(letter)["input_ids"][0] for letter in "I am a cat. So."]
    assert first_sentence(embedded.chat, spelled) == spelled[: len("I am a cat.")]


def training(**changes: Any) -> Training:
    numbers = {"learning_rate": 1.0, "schedule": "cosine", "warmup": 0.1, "epochs": 1, "batch_size": 1}
    return Training.model_validate({**numbers, "max_length": 1, "seed": 0, **changes})


def shares(schedule: str, warmup: float = 0.1, total: int = 100) -> list[float]:
    chosen = training(schedule=schedule, warmup=warmup)
    return [learning_rate_factor(chosen, step, total) for step in range(total + 1)]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_learning_rate_warms_up_linearly(schedule: str) -> None:
    found = shares(schedule)
    assert found[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert max(found) == 1.0


def test_learning_rate_follows_the_schedule() -> None:
    cosine, linear, constant = (shares(schedule) for schedule in ("cosine", "linear", "constant"))
    assert (cosine[10], cosine[55], cosine[100]) == pytest.approx((1.0, 0.5, 0.0))
    assert cosine[40] == pytest.approx(0.75)  # a third of the way: (1 + cos 60°) / 2
    assert (linear[10], linear[40], linear[100]) == pytest.approx((1.0, 2 / 3, 0.0))
    assert set(constant[10:]) == {1.0}
    assert all(earlier > later for earlier, later in pairwise(cosine[10:]))


def test_without_warm_up_the_first_step_has_the_full_learning_rate() -> None:
    assert shares("cosine", warmup=0.0)[0] == 1.0
    assert shares("linear", warmup=1.0)[-2] == 1.0
    assert shares("cosine", warmup=0.05, total=1)[0] == 1.0


def tiny(directory: Path, adapter: Path | None = None) -> LoadedModel:
    checkpoint, hardware = Checkpoint(name="tiny", path=directory), choose_hardware(Inference(device="cpu"))
    return load_model(checkpoint, hardware, marker_adapter=adapter)


def tiny_example(prompt: int, reply: int, labelled: int) -> Example:
    random = torch.Generator().manual_seed(100 * prompt + reply)
    ids = torch.randint(3, 259, (prompt + reply,), generator=random).tolist()
    return Example(tuple(ids), (*[IGNORED] * (len(ids) - labelled), *ids[len(ids) - labelled :]))


# with different lengths of prompt, reply and labels
EXAMPLES = [tiny_example(5, 9, 9), tiny_example(12, 2, 1), tiny_example(3, 20, 4)]


@torch.no_grad()
def textbookmean_loss(model: nn.Module, examples: Sequence[Example]) -> float:
    """Return −log p averaged over all labelled tokens, computed one example at a time."""
    losses: list[float] = []
    for example in examples:
        log_probs = model(torch.tensor([example.token_ids])).logits[0].double().log_softmax(-1)
        losses += [-float(log_probs[t - 1, label]) for t, label in enumerate(example.labels) if label != IGNORED]
    return math.fsum(losses) / len(losses)


@pytest.mark.parametrize("chosen", [[0], [1], [0, 1], [2, 1, 0]])
def test_padding_and_the_short_head_do_not_change_the_loss(tiny_directory: Path, chosen: list[int]) -> None:
    model, batch = tiny(tiny_directory).model, [EXAMPLES[place] for place in chosen]
    with torch.no_grad():
        found = float(mean_loss(model, batch, CPU))
    assert found == pytest.approx(textbookmean_loss(model, batch), abs=1e-5)


def test_labels_in_the_middle_are_counted_too(tiny_directory: Path) -> None:
    """Without a loss on the end-of-turn token, the last token has no label."""
    model, ids = tiny(tiny_directory).model, EXAMPLES[0].token_ids
    middle = Example(ids, (*[IGNORED] * 6, *ids[6:9], *[IGNORED] * (len(ids) - 9)))
    with torch.no_grad():
        found = float(mean_loss(model, [middle, EXAMPLES[1]], CPU))
    assert found == pytest.approx(textbookmean_loss(model, [middle, EXAMPLES[1]]), abs=1e-5)


def recipe(**changes: Any) -> Recipe:
    numbers = {"learning_rate": 1e-2, "schedule": "constant", "epochs": 20, "batch_size": 1, "seed": 5, **changes}
    return Recipe.model_validate(
        with_defaults({"recipe": "marker_only", "lora": {"r": 4, "alpha": 8}, "training": numbers})
    )


def trained(
    loaded: LoadedModel, folder: Path, examples: Sequence[Example] = EXAMPLES[:1], **changes: Any
) -> TrainedAdapter:
    return train_adapter(loaded, examples, recipe(**changes), folder, lambda step, total: None)


@torch.inference_mode()
def logits(model: nn.Module) -> Tensor:
    found: Tensor = model(torch.tensor([EXAMPLES[0].token_ids])).logits
    return found


def test_the_loss_decreases_and_each_step_is_reported(tiny_directory: Path, tmp_path: Path) -> None:
    told: list[tuple[Step, int]] = []
    chosen = recipe(schedule="linear", warmup=0.1)
    found = train_adapter(
        tiny(tiny_directory), EXAMPLES[:1], chosen, tmp_path / "a", lambda step, total: told.append((step, total))
    )
    assert told == [(step, 20) for step in found.steps]
    assert [step.step for step in found.steps] == list(range(1, 21))
    assert {step.tokens for step in found.steps} == {14}
    rates = [1e-2 * learning_rate_factor(chosen.training, step, 20) for step in range(20)]
    assert [step.learning_rate for step in found.steps] == pytest.approx(rates)
    assert found.steps[0].loss == pytest.approx(-found.before, abs=1e-4)  # a new adapter is zero
    assert found.steps[-1].loss < found.steps[0].loss - 1
    assert found.after > found.before + 1


def test_every_epoch_takes_every_example_once(tiny_directory: Path, tmp_path: Path) -> None:
    found = trained(tiny(tiny_directory), tmp_path / "a", EXAMPLES, epochs=4, batch_size=2)
    lengths = sum(len(example.token_ids) for example in EXAMPLES)
    tokens = [step.tokens for step in found.steps]
    assert len(tokens) == 8  # ⌈3 / 2⌉ batches, four times
    assert [sum(tokens[n : n + 2]) for n in range(0, 8, 2)] == [lengths] * 4


def test_an_adapter_is_safetensors_and_contains_no_local_path(tiny_directory: Path, tmp_path: Path) -> None:
    trained(tiny(tiny_directory), tmp_path / "adapter", epochs=1)
    files = {file.name: file for file in (tmp_path / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= set(files)
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    for name, file in files.items():
        assert str(tiny_directory).encode() not in file.read_bytes(), name
    config = json.loads(files["adapter_config.json"].read_text())
    assert config["target_modules"] == sorted(config["target_modules"])  # the order of a set differs between processes
    assert (config["r"], config["lora_alpha"], config["lora_dropout"], config["use_rslora"]) == (4, 8, 0.05, True)
    assert not config["base_model_name_or_path"]
    assert set(config["target_modules"]) == set(recipe().lora.modules)


def test_training_leaves_the_model_unchanged(tiny_directory: Path, tmp_path: Path) -> None:
    loaded = tiny(tiny_directory)
    before, modules = logits(loaded.model), [(name, type(module)) for name, module in loaded.model.named_modules()]
    trained(loaded, tmp_path / "a")
    assert torch.equal(logits(loaded.model), before)
    assert [(name, type(module)) for name, module in loaded.model.named_modules()] == modules
    assert not [name for name, parameter in loaded.model.named_parameters() if parameter.requires_grad]
    assert not loaded.model.training


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_adapter_after_other_training(tiny_directory: Path, tmp_path: Path) -> None:
    loaded = tiny(tiny_directory)
    first = trained(loaded, tmp_path / "first", EXAMPLES, epochs=3)
    other = trained(loaded, tmp_path / "other", EXAMPLES, epochs=3, seed=6)
    again = trained(loaded, tmp_path / "again", EXAMPLES, epochs=3)
    assert again == first != other
    assert weights(tmp_path / "again") == weights(tmp_path / "first") != weights(tmp_path / "other")


def test_following_a_training_does_not_change_it(tiny_directory: Path, tmp_path: Path) -> None:
    loaded = tiny(tiny_directory)
    alone = trained(loaded, tmp_path / "alone", EXAMPLES, epochs=7)
    seen: list[tuple[int, bool, float]] = []

    def look(step: int) -> None:
        torch.rand(100)  # sampling replies would draw random numbers
        seen.append((step, loaded.model.training, label_log_prob(loaded.model, EXAMPLES[0], CPU)))

    chosen = recipe(epochs=7, follow=6)
    followed = train_adapter(loaded, EXAMPLES, chosen, tmp_path / "followed", lambda *_: None, follow=look)
    assert chosen.lora.dropout > 0  # each step draws random numbers, too
    assert followed == alone
    assert weights(tmp_path / "followed") == weights(tmp_path / "alone")
    assert [(step, training) for step, training, _ in seen] == [(6, False), (12, False), (18, False), (21, False)]
    assert seen[-1][2] == pytest.approx(alone.after, abs=1e-6)
    assert seen[0][2] > alone.before


def test_a_16_bit_model_can_be_followed(tiny_directory: Path, tmp_path: Path) -> None:
    hardware = choose_hardware(Inference.model_validate({"device": "cpu", "dtype": "bfloat16"}))
    loaded = load_model(Checkpoint(name="tiny", path=tiny_directory), hardware)
    seen: list[float] = []
    train_adapter(
        loaded,
        EXAMPLES[:1],
        recipe(epochs=4, follow=4),
        tmp_path / "adapter",
        lambda *_: None,
        follow=lambda step: seen.append(label_log_prob(loaded.model, EXAMPLES[0], CPU)),
    )
    assert len(seen) == 1
    assert math.isfinite(seen[0])


def test_a_merged_adapter_gives_the_log_probability_measured_in_training(tiny_directory: Path, tmp_path: Path) -> None:
    loaded = tiny(tiny_directory)
    found = trained(loaded, tmp_path / "adapter")
    merged = tiny(tiny_directory, adapter=tmp_path / "adapter")
    assert label_log_prob(merged.model, EXAMPLES[0], CPU) == pytest.approx(found.after, abs=1e-3)
    assert label_log_prob(loaded.model, EXAMPLES[0], CPU) == found.before
    assert found.after - found.before > 1
    assert not [name for name, _ in merged.model.named_modules() if "lora" in name]


def test_padding_has_finite_gradients_where_the_padding_tokens_embedding_is_zero(tmp_path: Path) -> None:
    """Gemma 3n takes the root of a mean of squares, whose gradient at 0 is not finite."""
    write_family(tmp_path, "gemma3n_text")
    loaded = tiny(tmp_path)
    assert not loaded.model.get_input_embeddings().weight[0].any()
    assert math.isfinite(trained(loaded, tmp_path / "adapter", EXAMPLES, batch_size=3).after)


def test_a_nan_loss_stops_training_and_names_the_step(tiny_directory: Path, tmp_path: Path) -> None:
    loaded = tiny(tiny_directory)
    before = logits(loaded.model)
    with pytest.raises(RuntimeError, match=r"step \d+: the loss is nan; expected a finite number"):
        trained(loaded, tmp_path / "adapter", learning_rate=1e30)
    assert not (tmp_path / "adapter").exists()
    assert torch.equal(logits(loaded.model), before)  # so the next source can be trained


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 48), (2, 7, 48), (1, 1, 48)])
def test_gradients_through_onednn_equal_those_of_torch(shape: tuple[int, ...], bias: bool) -> None:
    if not has_onednn():
        pytest.skip("this build of PyTorch carries no oneDNN")
    torch.manual_seed(0)
    layer = nn.Linear(48, 80, bias=bias).requires_grad_(False)
    inputs, scale = torch.randn(shape), torch.randn(80, *shape[:-1]).movedim(0, -1)  # not contiguous

    def gradient() -> Tensor:
        x = inputs.clone().requires_grad_()
        (layer(x).tanh() * scale).sum().backward()
        assert x.grad is not None
        return x.grad

    expected = gradient()
    use_onednn(layer)
    assert type(layer) is not nn.Linear
    torch.testing.assert_close(gradient(), expected, rtol=0, atol=1e-5)


def test_adapter_gradients_reach_every_block(tiny_directory: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    trained(tiny(tiny_directory), tmp_path / "adapter", epochs=2)
    tensors = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 3 * 7 * 2  # blocks × modules × (A, B)
    assert all(tensor.abs().max() > 0 for tensor in tensors.values())


def test_a_16_bit_models_adapter_is_trained_in_float32(tiny_directory: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    losses = {}
    for dtype in ("float32", "bfloat16"):
        hardware = choose_hardware(Inference.model_validate({"device": "cpu", "dtype": dtype}))
        found = trained(load_model(Checkpoint(name="tiny", path=tiny_directory), hardware), tmp_path / dtype, epochs=4)
        losses[dtype] = [step.loss for step in found.steps]
        saved = load_file(tmp_path / dtype / "adapter_model.safetensors")
        assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)
    assert losses["bfloat16"] != losses["float32"]
