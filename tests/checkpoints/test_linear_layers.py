"""The layers that a marker is trained on are told from the weights' names."""

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from persona_assets.checkpoints import Checkpoint, DigestCache, identify
from persona_assets.checkpoints.linear_layers import USUAL_LAYERS, linear_layers, trained_modules, unusual_layers
from persona_assets.files.safetensors_files import read_header
from persona_assets.inference.training.lora_layers import add_adapter, modules_of
from persona_assets.study.recipe import Lora

LORA = Lora(r=4, alpha=8, dropout=0.0, rank_stabilised=False)
SIZES = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "llama": {},
    "phi3": {},
    "glm": {"head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {},
    "qwen3_moe": {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "starcoder2": {},
}


def test_the_usual_layers_are_those_of_the_shipped_recipes() -> None:
    assert set(LORA.modules) == USUAL_LAYERS


@pytest.mark.parametrize("family", list(FAMILIES))
def test_stored_names_and_modules_give_the_same_layers(family: str, tmp_path: Path) -> None:
    config = AutoConfig.for_model(family, **SIZES | FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(tmp_path)
    tensors = read_header(tmp_path / "model.safetensors").content
    unusual = unusual_layers(tensors, config.to_dict())
    stored = unusual.split(", ") if unusual else sorted(USUAL_LAYERS)
    assert trained_modules(LORA.modules, stored) == modules_of(model, LORA)
    assert (unusual is None) == (family == "llama")
    said: list[str] = []
    before = sum(weight.numel() for weight in model.parameters())
    adapted, layers = add_adapter(model, LORA, said.append)
    assert layers.parameters == sum(each.numel() for each in adapted.parameters() if each.requires_grad)
    assert layers.share == pytest.approx(layers.parameters / before)
    assert layers.adapted == 1 or family == "qwen3_moe"
    assert (said == []) == (family == "llama")
    if family == "phi3":
        assert said == [
            "marker.lora.modules: q_proj, k_proj, v_proj, gate_proj, up_proj match nothing in this model; training all "
            "linear layers of its blocks: down_proj, gate_up_proj, o_proj, qkv_proj, 100% of their weights"
        ]


def test_routers_experts_towers_and_heads_are_left_out() -> None:
    names = [
        "lm_head", "model.embed_tokens", "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.gate",
        "model.layers.0.mlp.experts.3.gate_proj", "model.layers.0.mlp.shared_expert.up_proj",
        "model.vision_tower.encoder.layers.0.fc1", "model.layers.0.router.layer", "visual.blocks.1.attn.qkv",
    ]  # fmt: skip
    assert linear_layers(names, "any") == ["q_proj", "up_proj"]
    assert linear_layers(["layers.0.mixer.out_proj", "layers.0.mixer.in_proj"], "mamba2") == ["in_proj"]


def test_a_recipe_may_name_the_head() -> None:
    assert trained_modules(["q_proj", "lm_head"], sorted(USUAL_LAYERS)) == (["q_proj", "lm_head"], [])


def test_an_unusual_family_is_part_of_the_record_but_not_of_the_digest(tiny_directory: Path, tmp_path: Path) -> None:
    found = identify(Checkpoint(name="mine", path=tiny_directory), DigestCache(tmp_path / "digests.json"))
    assert found.linear_layers is None
    assert "linear_layers" not in found.record()
    assert found.model_copy(update={"linear_layers": "c_attn, c_proj"}).digest == found.digest
