"""A checkpoint is inspected as a run would read it, without its weights, or refused with one sentence."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3Config, Gemma3ForConditionalGeneration

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.inference.inspection import inspect, refusal
from persona_assets.study import StudyError
from persona_assets.study.files import load_study
from tests.local_hub import LocalHub

SIZES: dict[str, Any] = {
    "vocab_size": 262, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip


def replace_model(directory: Path, model: Any) -> Checkpoint:
    """Replace the tiny model's weights and configuration, keeping its tokenizer."""
    for name in ("config.json", "generation_config.json", "model.safetensors"):
        (directory / name).unlink()
    model.save_pretrained(directory)
    return Checkpoint(name="tiny", path=directory)


def of_type(kind: str, **fields: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | fields))


def change(directory: Path, **fields: Any) -> None:
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def test_five_lines_say_how_a_checkpoint_is_measured(tiny_directory: Path) -> None:
    lines = inspect(Checkpoint(name="tiny", path=tiny_directory)).lines()
    assert [line.split()[0] for line in lines] == ["model", "scoring", "attention", "prompts", "training"]
    assert "LlamaForCausalLM: 3 blocks of 32, vocabulary 259" in lines[0]
    assert "persona in the system role" in lines[3]


def test_a_hybrid_is_scored_whole_and_a_softcapped_model_with_eager_attention(tiny_directory: Path) -> None:
    layers = ["conv", "full_attention", "conv"]
    found = inspect(replace_model(tiny_directory, of_type("lfm2", block_multiple_of=8, layer_types=layers)))
    assert found.scoring.startswith("whole sequences")
    found = inspect(replace_model(tiny_directory, of_type("gemma2", query_pre_attn_scalar=8)))
    assert found.attention == "eager, because fused attention drops the soft cap of the attention logits"


def test_a_multimodal_wrapper_whose_text_part_can_be_measured_is_accepted(tiny_directory: Path) -> None:
    """Gemma 3's config.json has its sizes in text_config only, and leaves out what equals a default."""
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=SIZES, vision_config=vision | {"image_size": 28, "patch_size": 14}, eos_token_id=2
    )
    found = inspect(replace_model(tiny_directory, Gemma3ForConditionalGeneration(config)))
    assert "3 blocks of 32" in found.model


def test_a_decoder_with_other_names_in_its_config_is_accepted(tiny_directory: Path) -> None:
    sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512, "vocab_size": 259}
    config = AutoConfig.for_model("gpt2", bos_token_id=None, eos_token_id=2, **sizes)
    assert "3 blocks of 32" in inspect(replace_model(tiny_directory, AutoModelForCausalLM.from_config(config))).model


def test_a_switch_of_the_template_that_is_not_set_is_named(tiny_directory: Path) -> None:
    file = tiny_directory / "chat_template.jinja"
    file.write_text(file.read_text() + "{% if enable_thinking %}<think>{% endif %}")
    found = inspect(Checkpoint(name="tiny", path=tiny_directory))
    assert "enable_thinking" in found.prompts
    assert any("enable_thinking" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model_type": "llava"}, "for which Transformers has a causal language model"),
        ({"model_type": "bert"}, "it is an encoder"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quant_method: found 'gptq'"),
        ({"num_attention_heads": 0}, "config.json"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_one_sentence(
    tiny_directory: Path, fields: dict[str, Any], expected: str
) -> None:
    change(tiny_directory, **fields)
    why = refusal(Checkpoint(name="tiny", path=tiny_directory))
    assert why is not None
    assert expected in why
    assert "\n" not in why


@pytest.mark.parametrize(
    ("change_weight", "expected"),
    [
        (
            lambda weight: weight[:32].clone(),
            r"up_proj\.weight: found shape \[32, 32\]; expected \[64, 32\], as config",
        ),
        (
            lambda weight: weight.to(torch.int8),
            r"quantization_config: found none, but .*up_proj\.weight is stored as I8",
        ),
    ],
)
def test_weights_that_config_json_does_not_describe_are_refused(
    tiny_directory: Path, change_weight: Callable[[torch.Tensor], torch.Tensor], expected: str
) -> None:
    file, name = tiny_directory / "model.safetensors", "model.layers.0.mlp.up_proj.weight"
    tensors = load_file(file)
    save_file(tensors | {name: change_weight(tensors[name])}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=expected):
        inspect(Checkpoint(name="tiny", path=tiny_directory))


def test_a_weight_that_is_not_stored_is_named(tiny_directory: Path) -> None:
    file = tiny_directory / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"has no weights for model\.norm\.weight \(1 missing in total\)"):
        inspect(Checkpoint(name="tiny", path=tiny_directory))


def test_a_layer_that_the_model_lacks_is_refused(tiny_directory: Path) -> None:
    study = load_study().model_copy(update={"layers": (7,)})
    with pytest.raises(StudyError, match="layers: found 7, which the model does not have"):
        inspect(Checkpoint(name="tiny", path=tiny_directory), study)


def test_a_missing_directory_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="typo does not exist"):
        inspect(Checkpoint(name="tiny", path=tmp_path / "typo"))


INSPECT = """
import sys
from persona_assets.checkpoints import Checkpoint
from persona_assets.inference.inspection import inspect
print(inspect(Checkpoint(name="theirs", hub="lab/model", revision=sys.argv[1])).model)
"""


def test_a_hub_repository_is_inspected_without_its_weights(tiny_directory: Path, tmp_path: Path) -> None:
    with LocalHub() as hub:
        done = hub.run(INSPECT, hub.commit("lab/model", tiny_directory), home=tmp_path)
        assert done.stdout.startswith("LlamaForCausalLM: 3 blocks"), done.stderr
        assert not [path for path in hub.asked if path.endswith(".safetensors")]


def test_a_hub_repository_that_holds_an_adapter_is_named_as_one(tmp_path: Path) -> None:
    with LocalHub() as hub:
        done = hub.run(INSPECT, hub.commit("lab/model", {"adapter_config.json": b"{}"}), home=tmp_path)
        assert "contains adapter_config.json and no config.json, so it is an adapter" in done.stderr
