"""What an architecture needs to be computed correctly, read from its configuration; no weights, no PyTorch.

Transformers says some of this in its model classes, which cannot be imported without PyTorch. The sets below repeat it,
and a test compares them with the installed Transformers.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

# Layers in which position and mask alone decide what a token sees: left padding changes nothing there.
PADDABLE_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
# A state that every token updates: padding would be read like text, and prefixes cannot be shared.
RECURRENT = frozenset({
    "bamba", "deepseek_v4", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "mamba",
    "mamba2", "nemotron_h", "olmo_hybrid", "qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text",
    "qwen3_next", "qwen4_exp", "qwen4_exp_text", "recurrent_gemma", "rwkv", "xlstm", "zamba", "zamba2", "zaya",
})  # fmt: skip
# Positions counted from the start of the row, padding included, or from the padding token's id.
POSITIONS_BY_ROW = frozenset({
    "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "camembert", "cpmant", "data2vec-text", "marian",
    "mbart", "musicgen", "musicgen_melody", "mvp", "pegasus", "plbart", "prophetnet", "roberta",
    "roberta-prelayernorm", "roformer", "trocr", "whisper", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod",
})  # fmt: skip
# Keys and values that Transformers cannot keep in its usual cache.
OTHER_CACHE = frozenset({"openai-gpt", "xlm", "lfm2", "lfm2_moe", "minimax", "hy_v4", "inkling_text"})
# No fused attention in Transformers: attention sinks, ALiBi, or an old implementation.
WITHOUT_SDPA = frozenset({
    "big_bird", "bigbird_pegasus", "bloom", "codegen", "cpmant", "deepseek_v4", "falcon_mamba", "git", "got_ocr2",
    "gpt_neo", "gpt_neox_japanese", "gpt_oss", "gptj", "granite_swa", "granitemoe_swa", "hy_v4", "mamba",
    "mamba2", "megatron-bert", "mimo_v2_flash", "mpt", "mvp", "openai-gpt", "prophetnet", "reformer", "rembert",
    "roformer", "rwkv", "trocr", "xglm", "xlm", "xlnet", "xlstm",
})  # fmt: skip

# Defaults of Transformers' configuration classes that published config.json files leave out.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "gemma2": {"attn_logit_softcapping": 50.0},
    "vaultgemma": {"attn_logit_softcapping": 50.0},
}


class Architecture(NamedTuple):
    """How a model of this architecture must be run.

    Attributes:
        model_type: Transformers' name of the architecture.
        attention: the attention implementation that it needs; None if every implementation computes the same.
        why: the reason, if `attention` is set.
        batching: `padded` if prompts of different length may be padded on the left and share cached prefixes; `whole`
            if every sequence must be fed whole, from its first token, without a cache.
        windows: whether some layer attends to a window or a chunk of the sequence only.
    """

    model_type: str
    attention: str | None
    why: str | None
    batching: Literal["padded", "whole"]
    windows: bool

    @property
    def scoring(self) -> str | None:
        """Return how responses are scored where it is not the way of plain full attention, as part of a fingerprint."""
        if self.batching == "whole":
            return "whole sequences"
        return "prompts padded on the left" if self.windows else None


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Return the needs of a model.

    Args:
        config: config.json, or its `text_config` if there is one.
    """
    config = config.get("text_config") or config
    config = {**DEFAULTS.get(str(config.get("model_type", "")), {}), **config}
    kind, layers = str(config.get("model_type", "")), frozenset(config.get("layer_types") or ())
    attention = why = None
    if config.get("attn_logit_softcapping"):
        attention, why = "eager", "fused attention drops the soft cap of the attention logits"
    elif kind in WITHOUT_SDPA:
        attention, why = "eager", f"Transformers has no fused attention for {kind}"
    paddable = layers <= PADDABLE_LAYERS and kind not in RECURRENT | POSITIONS_BY_ROW | OTHER_CACHE
    windows = bool(layers - {"full_attention"}) or bool(
        not layers and (config.get("sliding_window") and config.get("use_sliding_window", True))
    )
    return Architecture(kind, attention, why, "padded" if paddable else "whole", windows)
