"""Attention of single tokens on a CPU without copies of the keys and values for each query head.

Where several query heads share keys and values (grouped-query attention) and some keys are masked, Transformers repeats
the keys and values for every query head. PyTorch can share them instead, with the same result to the bit. While replies
are written that is the largest part of the attention's cost, for all keys are copied to attend from one token.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from persona_assets.inference.attention import attention_implementation
from persona_assets.inference.loading import LoadedModel

_NAME = "sdpa_grouped"


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attend as `sdpa` of Transformers; (rows, heads, tokens, width) → (rows, tokens, heads, width)."""
    if query.shape[2] > 1 or attention_mask is None or options.get("position_bias") is not None:
        attended, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended, None
    grouped = functional.scaled_dot_product_attention(
        query, key, value, attention_mask, scale=options.get("scaling"), enable_gqa=query.shape[1] != key.shape[1]
    )
    return grouped.transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def grouped_attention(loaded: LoadedModel) -> AbstractContextManager[None]:
    """Let a model on a CPU share keys and values among query heads until the context ends, if it knows how to."""
    model = loaded.model
    knows = model.config._attn_implementation == "sdpa" and model._supports_attention_backend
    if loaded.device.type != "cpu" or not knows:
        return nullcontext()
    return attention_implementation(model, _NAME)
