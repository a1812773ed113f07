"""Tests of loading: the complete, unchanged weights of a checkpoint, and none of its code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.inference import Hardware, LoadedModel, choose_hardware, load_model
from persona_assets.inference.cpu import has_onednn, use_onednn
from persona_assets.study import StudyError
from persona_assets.study.settings import Inference

IDS = torch.tensor([[10, 20, 30, 40, 50]])


def load(directory: Path, adapter: Path | None = None) -> LoadedModel:
    return load_model(
        Checkpoint(name="mine", path=directory, adapter=adapter), choose_hardware(Inference(device="cpu"))
    )


@torch.inference_mode()
def logits(model: nn.Module) -> Tensor:
    found: Tensor = model(IDS).logits
    return found


def test_an_adapter_is_merged_into_the_weights(tiny_directory: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_directory), lora).eval()
    adapted.save_pretrained(tmp_path / "adapter")

    loaded = load(tiny_directory, adapter=tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded.model), logits(adapted), rtol=0, atol=1e-5)
    assert (logits(loaded.model) - logits(load(tiny_directory).model)).abs().max() > 1e-2
    assert not [name for name, _ in loaded.model.named_modules() if "lora" in name]


def test_an_adapter_of_another_model_is_rejected(tiny_directory: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"base_model.model.x.lora_A.weight": torch.ones(2, 4)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["absent"]})
    )
    with pytest.raises(CheckpointError, match=r"mine: adapter .*adapter cannot be applied to this model: .*absent"):
        load(tiny_directory, adapter)


def test_an_adapter_with_missing_weights_is_rejected_not_ignored(tiny_directory: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    save_file({"elsewhere.q_proj.lora_A.weight": torch.ones(2, 32)}, adapter / "adapter_model.safetensors")
    (adapter / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]})
    )
    expected = r"mine: adapter .* no module of this model takes: elsewhere\.q_proj\.lora_A\.weight \(1 in total\)"
    with pytest.raises(CheckpointError, match=expected):
        load(tiny_directory, adapter)


def test_missing_weights_are_rejected_not_initialised_randomly(tiny_directory: Path) -> None:
    file = tiny_directory / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.up_proj.weight"], tensors["model.norm.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"mine: .*no weights for model\.layers\.1\.mlp\.up_proj\.weight \(2 missing in total\)"
    ):
        load(tiny_directory)


def test_weights_with_a_wrong_shape_are_rejected(tiny_directory: Path) -> None:
    file = tiny_directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "intermediate_size": 128}))
    with pytest.raises(CheckpointError, match=r"mine: .*cannot be loaded"):
        load(tiny_directory)


def test_missing_cuda_error_names_the_study_field() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(StudyError, match=r"study: inference\.device: found 'cuda'.*expected 'auto' or 'cpu'"):
        choose_hardware(Inference(device="cuda"))


def test_cpu_uses_float32_unless_the_study_sets_a_dtype() -> None:
    assert choose_hardware(Inference(device="cpu")).dtype == "float32"
    chosen = choose_hardware(Inference(device="cpu", dtype="bfloat16", attention="eager"))
    assert (chosen.device, chosen.dtype, chosen.attention, chosen.matmul) == ("cpu", "bfloat16", "eager", "torch")


def test_the_environment_contains_everything_that_affects_results() -> None:
    base = choose_hardware(Inference(device="cpu"))
    for change in ({"device_name": "other"}, {"dtype": "float16"}, {"attention": "eager"}, {"matmul": "other"}):
        assert Hardware(**{**vars(base), **change}).environment() != base.environment()
    assert base.environment()["torch"] == torch.__version__


def test_eager_and_sdpa_attention_agree(tiny_directory: Path) -> None:
    checkpoint = Checkpoint(name="tiny", path=tiny_directory)
    eager = load_model(checkpoint, choose_hardware(Inference(device="cpu", attention="eager")))
    assert eager.model.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(eager.model), logits(load(tiny_directory).model), rtol=0, atol=1e-5)


def root_mean_square(errors: Tensor) -> float:
    return float(errors.square().mean().sqrt())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 264])
def test_onednn_matmul_has_full_float32_precision(rows: int, bias: bool) -> None:
    if not has_onednn():
        pytest.skip("this build of PyTorch carries no oneDNN")
    random = torch.Generator().manual_seed(0)
    layer = nn.Linear(576, 1536, bias=bias)
    nn.init.normal_(layer.weight, std=0.05, generator=random)
    inputs = torch.randn(2, rows, 576, generator=random)
    with torch.inference_mode():
        exact = nn.functional.linear(inputs.double(), layer.weight.double(), layer.bias.double() if bias else None)
        own = layer(inputs)
        use_onednn(layer)
        found = layer(inputs)
    assert type(layer) is not nn.Linear
    assert found.shape == own.shape
    rounding = torch.finfo(torch.float32).eps * (inputs.double().abs() @ layer.weight.double().abs().T)
    # Internal bfloat16 passes would give errors a thousand times larger.
    assert ((found - exact).abs() <= 8 * rounding).all()
    # The rounding of partial sums depends on the processor and the number of threads.
    assert root_mean_square(found - exact) <= 10 * root_mean_square(own - exact)


def test_onednn_is_used_for_plain_linear_layers_only() -> None:
    class Quantised(nn.Linear):
        pass

    layers = nn.Sequential(Quantised(4, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    use_onednn(layers)
    assert type(layers[0]) is Quantised
    assert type(layers[1]) is not nn.Linear


def test_rows_at_once_fill_a_quarter_of_the_free_memory(embedded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    a_token = 2 * 30 * 3 * 64 * 4  # keys and values of 30 blocks, 3 heads of width 64, 4 bytes each
    for free, tokens in ((1 << 30, 100), (1 << 30, 1000), (8 << 30, 1000)):
        monkeypatch.setattr(LoadedModel, "free_memory", lambda loaded, free=free: free)
        # Factor 2: a growing cache is copied.
        assert embedded.rows_at_once(tokens) == free // 4 // (2 * a_token * tokens)


def test_rows_at_once_decrease_with_length_but_are_at_least_one(
    embedded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "free_memory", lambda loaded: 1 << 30)
    rows = [embedded.rows_at_once(tokens) for tokens in (1, 30, 300, 3000, 10**9)]
    assert rows == sorted(rows, reverse=True)
    assert (rows[0], rows[-1]) == (256, 1)
    assert len(set(rows)) > 3
    monkeypatch.setattr(LoadedModel, "free_memory", lambda loaded: 0)
    assert embedded.rows_at_once(10) == 1


CODE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokenizer
"""


@pytest.fixture
def marker(tiny_directory: Path, tmp_path: Path) -> Path:
    """File that the checkpoint's code creates if it runs."""
    marker = tmp_path / "code_was_run"
    (tiny_directory / "own.py").write_text(CODE.format(marker=str(marker)))
    for name, mapped in {
        "config.json": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
        "tokenizer_config.json": {"AutoTokenizer": [None, "own.Tokenizer"]},
    }.items():
        file = tiny_directory / name
        file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": mapped}))
    return marker


def test_checkpoint_code_runs_when_remote_code_is_trusted(
    tiny_directory: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig, LlamaConfig

    monkeypatch.setattr(LlamaConfig, "_auto_class", None)  # the checkpoint's class is this one, and would stay marked
    AutoConfig.from_pretrained(tiny_directory, trust_remote_code=True)
    assert marker.exists()  # otherwise the two tests below would prove nothing


def test_a_known_architecture_is_loaded_without_checkpoint_code(tiny_directory: Path, marker: Path) -> None:
    found = logits(load(tiny_directory).model)
    assert found.isfinite().all()
    assert not marker.exists()


def test_an_architecture_that_needs_checkpoint_code_is_rejected(tiny_directory: Path, marker: Path) -> None:
    file = tiny_directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "own"}))
    with pytest.raises(CheckpointError, match=r"(?s)mine: .*cannot be loaded.*trust_remote_code"):
        load(tiny_directory)
    assert not marker.exists()
