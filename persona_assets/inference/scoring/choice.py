"""Choice of the scorer: packed sequences where model and GPU support them, else plain Transformers."""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed_attention import why_not_packed_rows
from persona_assets.inference.scoring.fused import FusedScorer
from persona_assets.inference.scoring.packed import PackedScorer
from persona_assets.inference.scoring.padded import PrefixScorer, Scorer
from persona_assets.inference.scoring.whole import WholeScorer

# Architectures of the Llama family, which `FusedScorer` computes.
FUSED = ("llama", "mistral", "qwen2", "qwen3")


def choose_scorer(loaded: LoadedModel, deterministic: bool = False) -> Scorer:
    """Return the fastest scorer that supports the model.

    Args:
        deterministic: make scores bit-identical regardless of what else is in the batch; slower.
    """
    if loaded.architecture.batching == "whole":
        return WholeScorer(loaded, deterministic, f"{loaded.architecture.model_type} can neither be padded nor resumed")
    if (why := why_not_packed(loaded)) is not None:
        return PrefixScorer(loaded, deterministic, why)
    if why_not_fused(loaded) is None:
        return FusedScorer(loaded, deterministic)
    return PackedScorer(loaded, deterministic)


def why_not_packed(loaded: LoadedModel) -> str | None:
    """Return why `PackedScorer` is not used for this model, or None if it is."""
    dtype = loaded.model.dtype
    if loaded.device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16):
        return f"packed sequences need a CUDA card and 16-bit weights; found {loaded.device.type} and {dtype}"
    if loaded.hardware.tensor_parallel > 1:
        return f"the model is spread over {loaded.hardware.tensor_parallel} cards"
    if torch.cuda.get_device_capability() < (8, 0):
        return "FlashAttention needs a GPU with compute capability 8.0 or higher"
    return why_not_packed_rows(loaded.model)


def why_not_fused(loaded: LoadedModel) -> str | None:
    """Return why `FusedScorer` cannot score a model that can be packed, or None if it can."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if (reason := why_not_fused_family(loaded.model.config)) is not None:
        return reason
    projections = [module for name, module in loaded.model.named_modules() if name.endswith("_proj")]
    if any(type(module) is not nn.Linear for module in projections):
        return "its projections are not plain linear layers (quantised, or with an unmerged adapter)"
    return None


def why_not_fused_family(config: Any) -> str | None:
    """Return why `FusedScorer` does not support a model's architecture, or None if it does."""
    if config.model_type not in FUSED:
        return f"the architecture {config.model_type} is not supported; expected one of {', '.join(FUSED)}"
    if set(getattr(config, "layer_types", None) or ()) - {"full_attention"} or (
        config.model_type == "mistral" and config.sliding_window
    ):
        return "it uses sliding window attention"
    if config.hidden_act != "silu" or getattr(config, "mlp_bias", False):
        return "its MLP is not a plain gated SiLU"
    if config.model_type == "llama" and config.attention_bias:
        return "its attention output projection has a bias"
    rope = getattr(config, "rope_parameters", None) or {}
    if (kind := rope.get("rope_type", "default")) not in ("default", "linear", "llama3", "yarn"):
        return f"its rotary embedding ({kind}) depends on the sequence length"
    return None
