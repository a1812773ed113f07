"""Faster packed scorer for the Llama family: its own forward pass with the weights of the Transformers model.

Projections that read the same input are one matrix product, matrix products add the residuals, and the remaining three
element-wise functions exist in plain PyTorch here (any device) and as Triton kernels in `fused_triton`. It agrees with
`PackedScorer` up to rounding, so this file and `fused_triton` are optional optimisations.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed_attention import Packed, attend_packed
from persona_assets.inference.scoring.packed import PackedScorer


@dataclass(frozen=True)
class _Layer:
    input_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    head_norms: tuple[Tensor, Tensor] | None
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class FusedScorer(PackedScorer):
    """Scorer for decoders of the Llama family; see the module docstring."""

    name = "packed and fused"

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, tokens_at_once: int | None = None) -> None:
        """Fuse the model's projections in place; its own modules keep working, with views of the fused weights."""
        model, config = loaded.model, loaded.model.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = loaded.head_width
        self._epsilon = config.rms_norm_eps
        self._layers = [_fused(layer) for layer in model.model.layers]
        self._kernels: Any = _Plain
        if loaded.device.type == "cuda":
            from persona_assets.inference.scoring import fused_triton

            self._kernels = fused_triton
        super().__init__(loaded, deterministic, tokens_at_once)

    def _widest(self) -> int:
        layer = self._layers[0]
        return int(3 * layer.gate_up.shape[0] + 2 * layer.qkv.shape[0] + 8 * layer.down.shape[0])

    def _head(self, hidden: Tensor) -> Tensor:
        model = self.loaded.model
        normed = self._kernels.norm(hidden.reshape(-1, hidden.shape[-1]), model.model.norm.weight, self._epsilon)
        return functional.linear(normed, model.lm_head.weight).view(*hidden.shape[:2], -1)

    def _blocks(self, tokens: Tensor, packed: Packed) -> Tensor:
        """Return the output of the last block, before the final norm."""
        model, layout = self.loaded.model, packed.layout
        hidden: Tensor = model.model.embed_tokens(tokens)
        cos, sin = (table[0] for table in model.model.rotary_emb(hidden[None], layout.positions[None]))
        # One layer's keys and values; each prompt's come directly before those of its sequence.
        states = hidden.new_empty(2, layout.keys, self._kv_heads, self._width)
        for number, layer in enumerate(self._layers):
            fed = functional.linear(
                self._kernels.norm(hidden, layer.input_norm, self._epsilon), layer.qkv, layer.qkv_bias
            ).view(len(hidden), -1, self._width)
            if layer.head_norms is not None:
                self._norm_heads(fed, layer.head_norms)
            query = self._kernels.rotate(fed, cos, sin, states, layout.own, self._heads)
            for part, cached in zip(states, packed.prompts.get(number, ()), strict=False):
                part.index_copy_(0, layout.before, cached)
            if packed.kept is not None:  # sequences have no prefix here, so all rows belong to the fed tokens
                packed.kept[number] = (states[0].clone(), states[1].clone())
            attended = attend_packed(query, states[0], states[1], layout)
            hidden.addmm_(attended.flatten(1), layer.output.T)
            for start in range(0, len(hidden), self._tokens.size):
                rows = hidden[start : start + self._tokens.size]
                normed = self._kernels.norm(rows, layer.mlp_norm, self._epsilon)
                rows.addmm_(self._kernels.gate(functional.linear(normed, layer.gate_up)), layer.down.T)
        return hidden

    def _norm_heads(self, fed: Tensor, weights: tuple[Tensor, Tensor]) -> None:
        """Apply RMS norm to queries and keys per head, in place."""
        ends = (0, self._heads, self._heads + self._kv_heads)
        for (start, end), weight in zip(itertools.pairwise(ends), weights, strict=True):
            heads = fed[:, start:end]
            heads.copy_(self._kernels.norm(heads.reshape(-1, self._width), weight, self._epsilon).view_as(heads))


class _Plain:
    """Plain PyTorch versions of the functions in `fused_triton`."""

    @staticmethod
    def norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        wide = hidden.float()
        return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)).to(hidden.dtype)

    @staticmethod
    def rotate(qkv: Tensor, cos: Tensor, sin: Tensor, states: Tensor, rows: Tensor, heads: int) -> Tensor:
        turned, value = qkv.split_with_sizes((qkv.shape[1] - states.shape[2], states.shape[2]), dim=1)
        first, second = turned.chunk(2, dim=-1)
        turned = turned * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
        states[0, rows], states[1, rows] = turned[:, heads:], value
        return turned[:, :heads].contiguous()

    @staticmethod
    def gate(gate_up: Tensor) -> Tensor:
        gates, up = gate_up.chunk(2, dim=-1)
        return functional.silu(gates) * up


def _fused(layer: nn.Module) -> _Layer:
    attention: Any = layer.self_attn
    mlp: Any = layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [projection.bias for projection in projections]
    norms = (attention.q_norm.weight, attention.k_norm.weight) if hasattr(attention, "q_norm") else None
    return _Layer(
        input_norm=layer.input_layernorm.weight,  # type: ignore[union-attr,arg-type]
        qkv=_stacked(*projections),
        qkv_bias=None if biases[0] is None else torch.cat(biases),
        head_norms=norms,
        output=attention.o_proj.weight,
        mlp_norm=layer.post_attention_layernorm.weight,  # type: ignore[union-attr,arg-type]
        gate_up=_stacked(mlp.gate_proj, mlp.up_proj),
        down=mlp.down_proj.weight,
    )


def _stacked(*linears: nn.Linear) -> Tensor:
    """Concatenate the layers' weights; the layers then hold views of the result, so no memory is duplicated."""
    weight = torch.cat([linear.weight.data for linear in linears])
    for linear, part in zip(linears, weight.split_with_sizes([linear.out_features for linear in linears]), strict=True):
        linear.weight.data = part
    return weight
