"""The loss of a packed batch, and a training on packed batches, against padded batches of the same model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, choose_hardware, load_model, train_adapter
from persona_assets.inference.hidden_states import decoder_blocks
from persona_assets.inference.packed_attention import why_not_packed_rows
from persona_assets.inference.training import losses, train
from persona_assets.inference.training.example import IGNORED, Example
from persona_assets.inference.training.losses import batch_loss, mean_loss
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Inference
from tests.inference.families import write_family

FAMILIES = ("llama", "qwen3", "mistral", "gemma2", "gemma3_text", "gpt_oss", "qwen3_moe", "phi3")


def loaded_family(directory: Path, family: str) -> LoadedModel:
    write_family(directory, family)
    return load_model(Checkpoint(name=family, path=directory), choose_hardware(Inference(device="cpu")))


def examples(count: int) -> list[Example]:
    """Examples of 12 to 30 tokens, with the loss on their last one to five tokens, or on some in the middle."""
    random = torch.Generator().manual_seed(2)
    found = []
    for number in range(count):
        length = int(torch.randint(12, 31, (1,), generator=random))
        tokens = torch.randint(3, 200, (length,), generator=random).tolist()
        first, last = (length - 1 - number % 5, length) if number % 3 else (4, 9)
        labels = [token if first <= place < last else IGNORED for place, token in enumerate(tokens)]
        found.append(Example(tuple(tokens), tuple(labels)))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_batch_has_the_loss_and_the_gradient_of_a_padded_one(family: str, tmp_path: Path) -> None:
    loaded, batch = loaded_family(tmp_path, family), examples(6)
    assert why_not_packed_rows(loaded.model) is None
    # On a CPU, linear layers compute with copies of their weights; the gradient passes through all of them to these.
    weights = [weight for name, weight in loaded.model.named_parameters() if "norm" in name or "embed" in name]
    for weight in weights:
        weight.requires_grad_()
    padded = mean_loss(loaded.model, batch, loaded.device)
    expected = torch.autograd.grad(padded, weights, allow_unused=True)
    with batch_loss(loaded) as loss_of:
        packed = loss_of(batch)
        found = torch.autograd.grad(packed, weights, allow_unused=True)
    assert abs(float(packed) - float(padded)) < 1e-5
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * max(1, float(other.abs().max())))


@pytest.mark.parametrize("family", ["qwen2", "gemma3_text", "gpt_oss"])
def test_a_training_on_packed_batches_is_the_training_on_padded_ones(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = loaded_family(tmp_path, family)
    recipe = Recipe.model_validate(
        with_defaults(
            {
                "recipe": "marker_only",
                "lora": {"dropout": 0.0},
                "training": {"epochs": 5, "batch_size": 4, "learning_rate": 5e-4},
            }
        )
    )

    def trained(name: str) -> tuple[list[float], dict[str, torch.Tensor]]:
        steps = train_adapter(loaded, examples(24), recipe, tmp_path / name, lambda *_: None).steps
        return [step.loss for step in steps], load_file(tmp_path / name / "adapter_model.safetensors")

    packed, adapter = trained("packed")
    monkeypatch.setattr(losses, "why_not_packed_rows", lambda _: "the reference is padded")
    padded, reference = trained("padded")
    assert len(packed) == 30
    assert packed[0] - packed[-1] > 0.1
    assert packed == pytest.approx(padded, abs=1e-5)
    assert adapter.keys() == reference.keys()
    # Adam divides a gradient by its size, so rounding moves a weight whose gradient is next to nothing by a whole step.
    gaps = torch.cat([(adapter[name] - reference[name]).abs().ravel() for name in adapter])
    assert float(gaps.quantile(0.99) if gaps.numel() < 1 << 24 else gaps.kthvalue(int(0.99 * gaps.numel()))[0]) < 1e-4
    for name in adapter:
        assert float((adapter[name] - reference[name]).norm() / reference[name].norm().clamp_min(1e-6)) < 1e-2


def test_a_model_that_cannot_be_packed_is_trained_on_padded_batches(tmp_path: Path) -> None:
    loaded, batch = loaded_family(tmp_path, "nemotron"), examples(4)
    with batch_loss(loaded) as loss_of:
        assert float(loss_of(batch)) == float(mean_loss(loaded.model, batch, loaded.device))


def test_the_adapter_computes_in_16_bits_and_is_saved_in_32(tmp_path: Path) -> None:
    loaded = loaded_family(tmp_path, "qwen2")
    loaded.model.to(torch.bfloat16)
    recipe = Recipe.model_validate(with_defaults({"recipe": "marker_only", "training": {"epochs": 1}}))
    dtypes = set()

    def look(*_: object) -> None:
        dtypes.update(weight.dtype for weight in loaded.model.parameters())

    train_adapter(loaded, examples(24), recipe, tmp_path / "adapter", look)
    assert dtypes == {torch.bfloat16}
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    # The published learning rate is below what bfloat16 resolves: the float32 weights keep it.
    assert any(torch.count_nonzero(weight - weight.bfloat16().float()) for weight in saved.values())


def test_blocks_are_compiled_once_for_all_sources_and_left_alone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Dynamo alone, because generating code for a CPU takes long and a GPU is what it is for."""
    loaded = loaded_family(tmp_path, "qwen2")
    recipe = Recipe.model_validate(
        with_defaults({"recipe": "marker_only", "lora": {"dropout": 0.0}, "training": {"epochs": 1, "batch_size": 4}})
    )

    def losses_of(name: str) -> list[float]:
        trained = train_adapter(loaded, examples(12), recipe, tmp_path / name, lambda *_: None)
        assert ("blocks compiled" in trained.computation) == name.startswith("compiled")
        return [step.loss for step in trained.steps]

    expected = losses_of("plain")
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda block, dynamic: compile_(block, dynamic=dynamic, backend="eager"))
    monkeypatch.setattr(train, "compiling_pays", lambda *_: True)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    assert losses_of("compiled") == pytest.approx(expected, abs=1e-6)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert 0 < graphs < 2 * len(decoder_blocks(loaded.model))
    assert losses_of("compiled again") == pytest.approx(expected, abs=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert all(block._compiled_call_impl is None for block in decoder_blocks(loaded.model))
