"""Adapters apply completely or are refused, and a merged model is the adapted one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, check_complete, identify
from persona_assets.checkpoints.other_base import other_base
from persona_assets.inference import choose_hardware, load_model, read_chat, save_merged
from persona_assets.inference.adapters import require_modules
from persona_assets.study.settings import Inference
from tests.tiny_model import write_tiny_model

IDS = torch.randint(3, 259, (1, 30), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tied_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "tied"
    write_tiny_model(directory, tie_word_embeddings=True)
    return directory


@torch.inference_mode()
def logits(model: nn.Module) -> Tensor:
    found: Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def write_adapter(base: Path, directory: Path, **settings: Any) -> Path:
    """Write a LoRA adapter with random weights."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    lora = LoraConfig(**{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]} | settings)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora)
    for name, weight in adapted.named_parameters():
        if "lora_" in name and "magnitude" not in name:
            nn.init.normal_(weight, std=0.3)
        elif weight.requires_grad:
            weight.data += 0.1 * torch.randn_like(weight)
    adapted.save_pretrained(directory)
    return directory


def unmerged(base: Path, adapter: Path) -> nn.Module:
    from peft import PeftModel

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()


def load(base: Path, adapter: Path, dtype: str = "float32") -> Any:
    checkpoint = Checkpoint(name="mine", path=base, adapter=adapter)
    return load_model(checkpoint, choose_hardware(Inference(device="cpu", dtype=dtype)), lambda _: None)


def edit(adapter: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)
    return adapter


ON_TIED_MATRICES: dict[str, dict[str, Any]] = {
    "head": {"target_modules": ["lm_head"]},
    "embedding": {"target_modules": ["embed_tokens"]},
    "both": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "whole head": {"modules_to_save": ["lm_head"]},
    "whole embedding": {"modules_to_save": ["embed_tokens"]},
    "both whole": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "tied adapters": {"target_modules": ["lm_head"], "ensure_weight_tying": True},
    "trained tokens": {"trainable_token_indices": [3, 258]},
    "none": {},
}


@pytest.mark.parametrize("kind", list(ON_TIED_MATRICES))
def test_an_adapter_of_tied_matrices_gives_the_model_that_peft_gives(
    tied_directory: Path, tmp_path: Path, kind: str
) -> None:
    adapter = write_adapter(tied_directory, tmp_path / "adapter", **ON_TIED_MATRICES[kind])
    loaded = load(tied_directory, adapter)
    torch.testing.assert_close(logits(loaded.model), logits(unmerged(tied_directory, adapter)), rtol=0, atol=1e-4)

    copy = tmp_path / "copy"
    copy.mkdir()
    checkpoint = Checkpoint(name="mine", path=tied_directory, adapter=adapter)
    save_merged(checkpoint, choose_hardware(Inference(device="cpu")), copy, lambda _: None)
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(copy)), logits(loaded.model))
    tied = json.loads((copy / "config.json").read_text())["tie_word_embeddings"]
    assert tied == ("lm_head.weight" not in load_file(copy / "model.safetensors"))
    assert tied == (kind in ("none", "trained tokens", "tied adapters"))


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"rank_pattern": {"k_proj": 2}, "alpha_pattern": {"k_proj": 3}, "target_modules": ["q_proj", "k_proj"]},
        {"target_modules": "all-linear"},
        {"layers_to_transform": [1]},
        {"fan_in_fan_out": False, "bias": "all"},
    ],
    ids=str,
)
def test_every_kind_of_lora_is_merged_exactly(tiny_directory: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter", **settings)
    check_complete(Checkpoint(name="mine", path=tiny_directory, adapter=adapter))
    expected = logits(unmerged(tiny_directory, adapter))
    torch.testing.assert_close(logits(load(tiny_directory, adapter).model), expected, rtol=0, atol=1e-4)


def deeper(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return tensors | {name.replace(".layers.2.", ".layers.3."): each + 0 for name, each in tensors.items()}


def with_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    a, b = torch.ones(4, 32), torch.ones(259, 4)
    return tensors | {"base_model.model.lm_head.lora_A.weight": a, "base_model.model.lm_head.lora_B.weight": b}


def without_last_block(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: each for name, each in tensors.items() if ".layers.2." not in name}


def wider(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.ones(4, 48) if "lora_A" in name else each for name, each in tensors.items()}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (deeper, r"layers\.3\.self_attn\.q_proj\.lora_A\.weight \(2 in total\): the base model has no such block"),
        (with_head, r"lm_head\.lora_A\.weight \(2 in total\): target_modules of adapter_config\.json does not name"),
        (without_last_block, r"has no weights for model\.layers\.2\.self_attn\.q_proj, which target_modules"),
        (wider, r"lora_A\.weight: found shape \[4, 48\]; expected 32 columns"),
    ],
)
def test_registration_refuses_an_adapter_that_does_not_fit(
    tiny_directory: Path, tmp_path: Path, change: Any, expected: str
) -> None:
    adapter = edit(write_adapter(tiny_directory, tmp_path / "adapter"), change)
    with pytest.raises(CheckpointError, match=expected):
        check_complete(Checkpoint(name="mine", path=tiny_directory, adapter=adapter))
    model = AutoModelForCausalLM.from_pretrained(tiny_directory)
    with pytest.raises(CheckpointError, match=r"no module of this model takes|has no weights for|cannot be applied"):
        require_modules(model, adapter, "mine")


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_bias_that_cannot_be_merged_is_refused(tiny_directory: Path, tmp_path: Path, device: str) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter", lora_bias=True)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_directory))
    with pytest.raises(CheckpointError, match=r"lora_bias: found true, but model\.layers\.0\.self_attn\.q_proj has no"):
        require_modules(model, adapter, "mine")


def test_the_refusal_of_another_rank_is_one_line(tiny_directory: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "r": 8}))
    model = AutoModelForCausalLM.from_pretrained(tiny_directory)
    with pytest.raises(CheckpointError, match=r"size mismatch .*\[4, 32\].*\[8, 32\]") as caught:
        require_modules(model, adapter, "mine")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_tensors_under_other_names_are_refused(tiny_directory: Path, tmp_path: Path, device: str) -> None:
    adapter = edit(
        write_adapter(tiny_directory, tmp_path / "adapter"),
        lambda tensors: {name.replace("model.layers", "model.text.layers"): each for name, each in tensors.items()},
    )
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_directory))
    with pytest.raises(CheckpointError, match=r"mine: .*model\.text\.layers\.0\.self_attn\.q_proj.*\(6 in total\)"):
        require_modules(model, adapter, "mine")


def test_a_fitting_adapter_is_accepted_without_weights(tiny_directory: Path, tmp_path: Path) -> None:
    for number, settings in enumerate(({"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"})):
        adapter = write_adapter(tiny_directory, tmp_path / str(number), **settings)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tiny_directory))
        require_modules(model, adapter, "mine")


def test_whole_matrices_beside_the_lora_are_used(tiny_directory: Path, tied_directory: Path, tmp_path: Path) -> None:
    """An adapter whose config does not name them; on tied matrices two different ones cannot both be used."""
    torch.manual_seed(4)
    whole = {
        "base_model.model.model.embed_tokens.weight": torch.randn(259, 32),
        "base_model.model.lm_head.weight": torch.randn(259, 32),
    }
    adapter = edit(write_adapter(tiny_directory, tmp_path / "adapter"), lambda tensors: tensors | whole)
    loaded = load(tiny_directory, adapter)
    assert torch.equal(loaded.model.lm_head.weight, whole["base_model.model.lm_head.weight"])
    assert torch.equal(loaded.model.model.embed_tokens.weight, whole["base_model.model.model.embed_tokens.weight"])
    adapter = edit(write_adapter(tied_directory, tmp_path / "other"), lambda tensors: tensors | whole)
    with pytest.raises(CheckpointError, match=r"weight is tied to another matrix of this model"):
        load(tied_directory, adapter)


def test_an_adapter_that_changes_nothing_is_refused(tiny_directory: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=4, target_modules=["q_proj"])
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_directory), lora).save_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors changes nothing: .* is 0, as before"):
        check_complete(Checkpoint(name="mine", path=tiny_directory, adapter=tmp_path / "a"))


@pytest.mark.parametrize("shape", [None, (0,), (0, 4)])
def test_an_adapter_without_weights_says_why(tiny_directory: Path, tmp_path: Path, shape: tuple[int, ...]) -> None:
    adapter = edit(
        write_adapter(tiny_directory, tmp_path / "adapter"),
        lambda tensors: {} if shape is None else dict.fromkeys(list(tensors)[:1], torch.zeros(shape)),
    )
    with pytest.raises(CheckpointError, match=r"holds no weights.*DeepSpeed ZeRO-3"):
        check_complete(Checkpoint(name="mine", path=tiny_directory, adapter=adapter))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("layer_replication", [[0, 2], [1, 3]]),
        ("alora_invocation_tokens", [5]),
        ("peft_type", "IA3"),
        ("lora_alpha", 0),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused(
    tiny_directory: Path, tmp_path: Path, field: str, value: object
) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    with pytest.raises(CheckpointError, match=rf"adapter_config\.json: {field}: found "):
        check_complete(Checkpoint(name="mine", path=tiny_directory, adapter=adapter))


def test_weights_that_merging_loses_are_noticed(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora.layer import Linear

    adapter = write_adapter(tiny_directory, tmp_path / "adapter", target_modules=["q_proj", "v_proj"])
    own = Linear.get_delta_weight

    def halved(layer: Any, name: str) -> Tensor:
        return own(layer, name) / 2

    monkeypatch.setattr(Linear, "get_delta_weight", halved)
    with pytest.raises(CheckpointError, match=r"mine: adapter .* gives another model than beside them: mean KL 0\.\d+"):
        load(tiny_directory, adapter)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_rounding_of_merged_weights_to_16_bits_is_accepted(tiny_directory: Path, tmp_path: Path, dtype: str) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter", target_modules="all-linear")
    for scale in (1.0, 0.1, 0.01):
        edit(adapter, lambda tensors, scale=scale: {name: each * scale**0.5 for name, each in tensors.items()})
        load(tiny_directory, adapter, dtype)


def test_an_adapter_that_rounding_erases_is_refused(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft.tuners.lora.layer import Linear

    adapter = write_adapter(tiny_directory, tmp_path / "adapter", target_modules=["q_proj", "v_proj"])
    edit(adapter, lambda tensors: {name: each * 0.2 for name, each in tensors.items()})
    load(tiny_directory, adapter, "bfloat16")
    own = Linear.get_delta_weight
    # As if every change were smaller than half the distance of two neighbouring bfloat16 weights.
    monkeypatch.setattr(Linear, "get_delta_weight", lambda layer, name: own(layer, name) * 0)
    with pytest.raises(CheckpointError, match=r"in bfloat16, it gives another model.*try inference\.dtype: float32"):
        load(tiny_directory, adapter, "bfloat16")


def test_an_adapters_own_template_and_tokenizer_are_used(tiny_directory: Path, tmp_path: Path) -> None:
    plain, own = (write_adapter(tiny_directory, tmp_path / name) for name in ("plain", "own"))
    template = "{% for m in messages %}SYSTEM:{{ m['content'] }}\n{% endfor %}ANSWER:"
    (own / "chat_template.jinja").write_text(template)
    cache = DigestCache(tmp_path / "digests.json")
    checkpoints = [Checkpoint(name="mine", path=tiny_directory, adapter=each) for each in (plain, own)]
    before, after = (identify(each, cache) for each in checkpoints)
    assert {name for name, value in after if value != getattr(before, name)} >= {"chat_template"}
    assert before.tokenizer == after.tokenizer
    assert read_chat(checkpoints[1]).prompt_text("P", "Q") == "SYSTEM:P\nSYSTEM:Q\nANSWER:"

    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(own)
    (own / "chat_template.jinja").unlink()
    assert identify(checkpoints[1], cache).tokenizer != before.tokenizer
    chat = read_chat(checkpoints[1])
    assert chat.tokenizer.eos_token == "<|endoftext|>"
    assert "<|im_start|>" in chat.prompt_text("P", "Q")


def test_a_tokenizer_file_without_a_vocabulary_is_refused(tiny_directory: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter")
    (adapter / "added_tokens.json").write_text('{"<new>": 259}')
    with pytest.raises(CheckpointError, match=r"found added_tokens\.json without a vocabulary"):
        check_complete(Checkpoint(name="mine", path=tiny_directory, adapter=adapter))


@pytest.mark.parametrize("base", ["tiny_directory", "tied_directory"])
def test_embeddings_of_added_tokens_are_used(base: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    directory: Path = request.getfixturevalue(base)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    tokenizer.add_tokens(["<one>", "<two>"])
    model = AutoModelForCausalLM.from_pretrained(directory)
    torch.manual_seed(5)
    model.resize_token_embeddings(261)
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, lora)
    adapter = tmp_path / "adapter"
    adapted.save_pretrained(adapter, save_embedding_layers=True)
    tokenizer.save_pretrained(adapter)

    loaded = load(directory, adapter)
    assert loaded.model.get_input_embeddings().weight.shape[0] == 261
    torch.testing.assert_close(logits(loaded.model), logits(adapted.eval()), rtol=0, atol=1e-4)
    assert isinstance(adapted, PeftModel)
    copy = tmp_path / "copy"
    copy.mkdir()
    checkpoint = Checkpoint(name="mine", path=directory, adapter=adapter)
    save_merged(checkpoint, choose_hardware(Inference(device="cpu")), copy, lambda _: None)
    assert json.loads((copy / "config.json").read_text())["vocab_size"] == 261
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(copy)), logits(loaded.model))

    (adapter / "adapter_model.safetensors").unlink()
    write_adapter(directory, adapter)
    tokenizer.save_pretrained(adapter)
    with pytest.raises(CheckpointError, match=r"the tokenizer has 261 tokens, but the model only 259 embeddings"):
        load(directory, adapter)


def test_an_adapter_of_another_base_is_told(tiny_directory: Path, tied_directory: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny_directory, tmp_path / "adapter")
    assert other_base(Checkpoint(name="mine", path=tiny_directory, adapter=adapter)) is None
    said = other_base(Checkpoint(name="mine", path=tied_directory, adapter=adapter))
    assert said == f"the adapter was made for {str(tiny_directory)!r} and is used on {tied_directory}"
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "Org/Model-7B"}))
    assert other_base(Checkpoint(name="mine", hub="Org/Model-7B", revision="0" * 40, adapter=adapter)) is None
    assert other_base(Checkpoint(name="mine", path=tmp_path / "model-7b", adapter=adapter)) is None
    assert other_base(Checkpoint(name="mine", hub="Org/Model-1B", revision="0" * 40, adapter=adapter)) is not None
