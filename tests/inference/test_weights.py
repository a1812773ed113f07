"""All stored weights are used and no others; quantised ones are dequantised or refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, check_complete, identify
from persona_assets.inference import LoadedModel, choose_hardware, load_model, save_merged
from persona_assets.study.settings import Inference
from tests.tiny_model import write_tiny_model


def load(directory: Path) -> LoadedModel:
    checkpoint = Checkpoint(name="mine", path=directory)
    return load_model(checkpoint, choose_hardware(Inference(device="cpu")), lambda _: None)


def change(directory: Path, **values: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def quantise_to_fp8(directory: Path, block: int = 32) -> dict[str, Tensor]:
    """Store the blocks' matrices in 8 bits with a scale a square; return what they are when dequantised."""
    file = directory / "model.safetensors"
    stored, plain = {}, {}
    for name, weight in load_file(file).items():
        plain[name] = stored[name] = weight
        if weight.dim() == 2 and ".layers." in name:
            rows, columns = weight.shape
            squares = weight.view(rows // block or 1, -1, columns // block or 1, min(block, columns))
            scale = squares.abs().amax((1, 3)) / 448
            small = (squares / scale[:, None, :, None]).to(torch.float8_e4m3fn)
            stored[name], stored[f"{name}_scale_inv"] = small.view(rows, columns), scale
            plain[name] = (small.float() * scale[:, None, :, None]).view(rows, columns)
    save_file(stored, file, metadata={"format": "pt"})
    change(directory, quantization_config={"quant_method": "fp8", "weight_block_size": [block, block]})
    return plain


@pytest.fixture
def fp8_directory(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    directory = tmp_path / "fp8"
    write_tiny_model(directory, hidden_size=128, intermediate_size=128)
    return directory, quantise_to_fp8(directory)


def test_fp8_weights_are_dequantised_and_named(fp8_directory: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    directory, plain = fp8_directory
    loaded = load(directory)
    for name, weight in loaded.model.state_dict().items():
        torch.testing.assert_close(weight, plain[name])
    checkpoint = Checkpoint(name="mine", path=directory)
    assert identify(checkpoint, DigestCache(tmp_path / "digests.json")).quantisation == "fp8"
    copy = tmp_path / "copy"
    copy.mkdir()
    save_merged(checkpoint, choose_hardware(Inference(device="cpu")), copy, lambda _: None)
    assert "quantization_config" not in json.loads((copy / "config.json").read_text())
    torch.testing.assert_close(load_file(copy / "model.safetensors"), plain)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"found 'gptq', which needs the library gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, r"found 'awq', which needs the library gptqmodel"),
        ({"quant_method": "compressed-tensors"}, r"needs the library compressed-tensors and cannot be dequantised"),
        ({"quant_method": "torchao"}, r"needs the library torchao"),
        ({"quant_method": "own"}, r"found 'own' and cannot be dequantised here; expected one of \['bitsandbytes'"),
        ({"quant_method": "fp8"}, r"found fp8, but all stored weights are plain"),
        ([4], r"quantization_config: found \[4\]; expected a JSON object"),
    ],
)
def test_other_quantised_checkpoints_are_refused_at_registration(
    tiny_directory: Path, settings: object, expected: str
) -> None:
    change(tiny_directory, quantization_config=settings)
    with pytest.raises(CheckpointError, match=expected):
        check_complete(Checkpoint(name="mine", path=tiny_directory))


def test_bitsandbytes_needs_its_library(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_assets.checkpoints.quantisation.find_spec", lambda name: None)
    change(tiny_directory, quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(CheckpointError, match=r"the library bitsandbytes is not installed; install it with `pip"):
        check_complete(Checkpoint(name="mine", path=tiny_directory))


def test_packed_shapes_are_not_judged_wrong(tiny_directory: Path) -> None:
    """Eight numbers of four bits in an integer make dimensions smaller than the hidden size."""
    change(tiny_directory, hidden_size=4096, vocab_size=512, quantization_config={"quant_method": "mxfp4"})
    packed = {f"model.layers.{block}.up": torch.zeros(512, 8, dtype=torch.uint8) for block in range(3)}
    save_file(packed, tiny_directory / "model.safetensors")
    check_complete(Checkpoint(name="mine", path=tiny_directory))


def test_weights_that_the_model_does_not_know_are_refused(tiny_directory: Path) -> None:
    file = tiny_directory / "model.safetensors"
    extra = {f"model.layers.{block}.self_attn.q_norm.weight": torch.ones(8) for block in range(3)}
    save_file(load_file(file) | extra, file, metadata={"format": "pt"})
    expected = r"weights that LlamaForCausalLM does not use: model\.layers\.0\.self_attn\.q_norm\.weight \(3 in total\)"
    with pytest.raises(CheckpointError, match=expected):
        load(tiny_directory)


def test_a_false_tie_is_refused(tiny_directory: Path) -> None:
    change(tiny_directory, tie_word_embeddings=True)
    with pytest.raises(CheckpointError, match=r"tie_word_embeddings: found true, but lm_head\.weight and model\.embed"):
        check_complete(Checkpoint(name="mine", path=tiny_directory))
    with pytest.raises(CheckpointError, match=r"tie_word_embeddings: found true, but the stored output matrix"):
        load(tiny_directory)
    file = tiny_directory / "model.safetensors"
    tensors = load_file(file)
    same = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    save_file(tensors | same, file, metadata={"format": "pt"})
    check_complete(Checkpoint(name="mine", path=tiny_directory))
    load(tiny_directory)


def test_an_adapter_beside_a_model_is_refused(tiny_directory: Path) -> None:
    """Transformers would apply it although no identity names it."""
    (tiny_directory / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"contains adapter_config\.json beside a model's config\.json"):
        check_complete(Checkpoint(name="mine", path=tiny_directory))
    (tiny_directory / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no config\.json, so it is an adapter; expected a model"):
        check_complete(Checkpoint(name="mine", path=tiny_directory))


def test_the_copy_of_an_unchanged_model_has_the_same_config(tiny_directory: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(name="mine", path=tiny_directory)
    save_merged(checkpoint, choose_hardware(Inference(device="cpu")), tmp_path, lambda _: None)
    assert (tmp_path / "config.json").read_bytes() == (tiny_directory / "config.json").read_bytes()
    save_merged(checkpoint, choose_hardware(Inference(device="cpu", dtype="bfloat16")), tmp_path, lambda _: None)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
