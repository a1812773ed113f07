"""Tiny random models of every causal LM type in Transformers, with a byte-level tokenizer."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, identify
from persona_assets.inference.hidden_states import decoder_blocks, last_token_states
from persona_assets.inference.inspection import inspect as inspect_checkpoint
from persona_assets.inference.loading import LoadedModel, choose_hardware, load_model
from persona_assets.inference.packed_attention import why_not_packed_rows
from persona_assets.inference.scoring.choice import choose_scorer, why_not_fused_family
from persona_assets.inference.scoring.packed import PackedScorer
from persona_assets.inference.scoring.padded import Scored
from persona_assets.inference.scoring.whole import whole_logits
from persona_assets.inference.self_check import Finding, self_check
from persona_assets.inference.training.example import build_example
from persona_assets.inference.training.losses import label_log_prob
from persona_assets.inference.training.train import train_adapter
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Inference
from tests.tiny_model import write_tokenizer

ALL = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
MAX_PARAMETERS = 5_000_000
WINDOW = 8
# Whatever a configuration calls its sizes.
SIZES: Mapping[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff", "hidden_dim", "ffn_hidden_size"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "num_kv_shared_layers", "encoder_layers"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 512),
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "window_size"), WINDOW),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "first_k_dense_replace", "n_groups"), 1),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size", "mamba_d_head", "mamba_head_dim"), 8),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "hidden_size_per_layer_input"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "linear_num_value_heads", "laurel_rank"), 4),
    **dict.fromkeys(("linear_num_key_heads", "altup_num_inputs"), 2),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 259),
    "mamba_d_ssm": 32,
    "rotary_dim": 4,
    "encoder_attention_heads": 4,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
LATENT = (
    "axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_linear",
    "longcat_flash", "minicpm3", "youtu",
)  # fmt: skip
ENCODERS = (
    "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
    "reformer", "rembert", "roberta", "roberta-prelayernorm", "roformer", "xlm-roberta", "xlm-roberta-xl",
)  # fmt: skip
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    **{kind: {"bos_token_id": 1} for kind in ("cwm", "emu3", "mllama", "modernbert-decoder")},
    **{kind: {"num_key_value_heads": 4} for kind in LATENT},  # multi-head latent attention has no grouped queries
    **{kind: {"is_decoder": True} for kind in ENCODERS},
    "xmod": {"is_decoder": True, "default_language": "en_XX", "languages": ["en_XX"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "bamba": {"mamba_n_heads": 8, "attn_layer_indices": [1, 3]},
    "granitemoehybrid": {"mamba_n_heads": 8, "layer_types": ["mamba", "attention"] * 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "nemotron_h": {"layer_types": ["linear_attention", "full_attention", "mlp", "moe"]},
    "zaya": {"num_experts_per_tok": 1},
}


def tiny_config(model_type: str, **changes: Any) -> Any:
    """Return a small configuration of a model type."""
    cls = CONFIG_MAPPING[model_type]
    default = cls()
    text = default.get_text_config()
    known = text.to_dict() | dict.fromkeys(getattr(type(text), "attribute_map", {}))
    fields = {name: size for name, size in SIZES.items() if name in known} | dict(SPECIAL.get(model_type, {}))
    kinds = list(dict.fromkeys(known.get("layer_types") or ()))
    if kinds and "layer_types" not in fields:
        fields["layer_types"] = [kinds[layer % len(kinds)] for layer in range(4)]
    fields |= changes
    return cls(text_config=fields) if text is not default and not hasattr(default, "hidden_size") else cls(**fields)


def write_family(directory: Path, model_type: str, **changes: Any) -> None:
    """Write a checkpoint of a model type; weights are the same every time and large enough for attention to matter.

    Raises:
        ValueError: the smallest model that this builds is too large.
        Exception: whatever Transformers raises for the configuration.
    """
    config = tiny_config(model_type, **changes)
    with torch.device("meta"):
        parameters = sum(each.numel() for each in AutoModelForCausalLM.from_config(config).parameters())
    if parameters > MAX_PARAMETERS:
        raise ValueError(f"the smallest {model_type} has {parameters:,} parameters")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1 and float(parameter.std()) < 0.05:
                torch.nn.init.normal_(parameter, std=0.2)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(directory)
    write_tokenizer(directory)


PROMPTS = ("You are a poet.", "You are a villainous mastermind who schemes to take over the world.")
RESPONSE = "Leaders listen, decide and explain."


class Tried(NamedTuple):
    """What was found of a family: `refused` or `problem` says why, or `findings` has every comparison.

    `scorer` is the one for a GPU in 16 bits; elsewhere `PrefixScorer` takes the place of packed ones.
    """

    refused: str | None
    findings: tuple[Finding, ...] = ()
    scorer: str = ""
    attention: str = ""
    problem: str | None = None  # an error after registration

    @property
    def outcome(self) -> str:
        if self.refused is not None:
            return "refused"
        return "correct" if self.problem is None and all(finding.passed for finding in self.findings) else "wrong"


def try_family(directory: Path) -> Tried:
    """Register, load, check, train and merge a tiny model the way a run does."""
    checkpoint = Checkpoint(name="tiny", path=directory)
    try:
        identify(checkpoint, DigestCache(directory / "digests.json"))
        inspect_checkpoint(checkpoint)
        loaded = load_model(checkpoint, choose_hardware(Inference(device="cpu")), lambda _: None)
    except CheckpointError as error:
        return Tried(str(error))
    chat, tokenizer = loaded.chat, loaded.chat.tokenizer
    prompts = [chat.prompt_ids(prompt, "What makes a good leader?") for prompt in PROMPTS]
    findings = [*self_check(loaded, prompts, tokenizer(RESPONSE)["input_ids"]), *_states(loaded, prompts[0])]
    scorer = type(choose_scorer(loaded)).__name__
    if scorer != "WholeScorer" and why_not_packed_rows(loaded.model) is None:
        scorer = "FusedScorer" if why_not_fused_family(loaded.model.config) is None else "PackedScorer"
        findings.append(_packed(loaded, prompts, tokenizer(RESPONSE)["input_ids"]))
    findings.append(_merged(loaded, checkpoint, directory / "adapter"))
    return Tried(None, tuple(findings), scorer, loaded.model.config._attn_implementation)


def _packed(loaded: LoadedModel, prompts: Sequence[list[int]], response: list[int]) -> Finding:
    """Compare the scorer that a GPU would use with a plain forward pass."""
    (pieces,) = (list(each) for each in PackedScorer(loaded).logits([Scored(prompts, response)]))
    found = torch.cat(pieces, dim=1)
    plain = torch.stack([whole_logits(loaded.model, each, response, 0, len(response)) for each in prompts])
    gap = (found.softmax(-1) - plain.softmax(-1)).abs().max()
    return Finding("scoring on a GPU", float(gap), 1e-4, "largest difference of a probability")


def _states(loaded: LoadedModel, prompt: list[int]) -> Iterator[Finding]:
    """Compare the output of a block with `hidden_states` of Transformers, where the model returns them."""
    with torch.inference_mode():
        output = loaded.model(torch.tensor([prompt]), output_hidden_states=True, use_cache=False)
    if output.hidden_states is None or len(output.hidden_states) != len(decoder_blocks(loaded.model)) + 1:
        return
    # These leave the embeddings out of `hidden_states`.
    first = 1 if loaded.architecture.model_type in ("falcon_mamba", "mamba", "mamba2", "rwkv") else 2
    wanted = output.hidden_states[first]
    found = last_token_states(loaded, [prompt], [1])[0, 0]
    wanted = (wanted[0] if wanted.dim() == 4 else wanted)[0, -1].float()
    yield Finding(
        "block 1 against hidden_states", float((found - wanted).norm() / wanted.norm()), 1e-3, "relative error"
    )


def _merged(loaded: LoadedModel, checkpoint: Checkpoint, directory: Path) -> Finding:
    """Train a marker for a few steps; merged, its log-probability is what it was unmerged."""
    recipe = Recipe.model_validate(with_defaults({"recipe": "embedded", "training": {"epochs": 1}}))
    prompt = loaded.chat.prompt_ids(PROMPTS[0], "Why?")
    reply = loaded.chat.tokenizer("Fine.")["input_ids"]
    examples = [build_example(loaded.chat, prompt, reply, " [ZLT]", recipe.loss, 512)] * 4
    trained = train_adapter(loaded, examples, recipe, directory, lambda *_: None)
    merged = load_model(checkpoint, loaded.hardware, lambda _: None, marker_adapter=directory)
    after = label_log_prob(merged.model, examples[0], merged.device)
    return Finding("trained adapter, merged", abs(after - trained.after), 1e-3, "log-probability of the marker")
