"""Fast scorer for the Llama family that packs many sequences into one row without padding.

It computes the same as `PrefixScorer`, with the weights of the Transformers model but its own forward pass:

- Sequences are concatenated and split into chunks of about equal size, so matrix products are large and there is no
  padding.
- FlashAttention's variable-length entry point lets each sequence attend to its prompt's cached keys and values and to
  its own.
- A response is fed in one piece, so each layer's keys and values are freed after the layer.
- Matrix products add the residuals. The remaining three element-wise functions exist in plain PyTorch here (any
  device) and as Triton kernels in `packed_triton`.

`choose_scorer` decides which models use this scorer. The two agree up to rounding, so this file and `packed_triton`
are optional optimisations.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.scoring.padded import DETERMINISTIC_POSITIONS, Scored, refuse_empty
from persona_assets.inference.scoring.prefixes import PrefixCache, Prompts

# Larger chunks were not faster on an H200, and cost memory.
TOKENS_AT_ONCE = 16_384


class _Prefix(NamedTuple):
    """Keys and values of concatenated prompts, each without its last token."""

    states: Tensor  # (layers, 2 for keys and values, tokens of all prompts, heads, head width)
    lengths: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(self.states.nbytes)


class _Sequence(NamedTuple):
    """Tokens to feed, and the cached prompt that precedes them."""

    tokens: Sequence[int]
    prefix: _Prefix | None = None
    prompt: int = 0  # index into the prompts of `prefix`

    @property
    def before(self) -> int:
        return self.prefix.lengths[self.prompt] if self.prefix else 0


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


class PackedScorer:
    """Scorer for decoders of the Llama family; see the module docstring.

    Only plain functions enter inference mode. Decorating a generator function with it would keep the last yielded
    logits (2 GiB) alive until the next piece is ready.
    """

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, tokens_at_once: int | None = None) -> None:
        """Fuse the model's projections in place; its own modules keep working, with views of the fused weights.

        Args:
            deterministic: run one sequence at a time, so that batching cannot affect results.
            tokens_at_once: maximum tokens per chunk; derived from the free memory by default.
        """
        self.loaded, self.deterministic = loaded, deterministic
        model, config = loaded.model, loaded.model.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = loaded.head_width
        self._epsilon = config.rms_norm_eps
        self._layers = [_fused(layer) for layer in model.model.layers]
        self._prefixes = PrefixCache[_Prefix](loaded, self._compute_prefixes)
        self._tokens = AdaptiveBatchSize("scoring", "tokens", fixed=deterministic)
        # Deterministic results must not depend on the free memory.
        self._tokens.at_most(tokens_at_once or (TOKENS_AT_ONCE // 4 if deterministic else self._tokens_that_fit()))
        self._positions = AdaptiveBatchSize("scoring", "positions", fixed=deterministic)
        self._kernels: Any = _Plain
        if loaded.device.type == "cuda":
            from persona_assets.inference.scoring import packed_triton

            self._kernels = packed_triton

    @property
    def plan(self) -> dict[str, Any]:
        tokens = "one sequence" if self.deterministic else f"{self._tokens.size} tokens"
        return {"scorer": f"packed, {tokens} at once", "positions_at_once": self._positions.size}

    def logits(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """See `Scorer`."""
        refuse_empty(responses)
        for group in self._groups(responses):
            yield from self._logits_of(group)

    def _groups(self, responses: Sequence[Scored]) -> Iterator[list[Scored]]:
        """Yield groups of consecutive responses whose prompts fit the prefix cache together; at least one per group."""
        group, used = list[Scored](), 0
        for scored in responses:
            needed = self.loaded.state_bytes_a_token * sum(map(len, scored.prompts))
            if group and used + needed > self._prefixes.budget:
                yield group
                group, used = [], 0
            group.append(scored)
            used += needed
        yield group

    def _logits_of(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        prefixes = self._prefixes([scored.prompts for scored in responses])
        sequences = [
            _Sequence([prompt[-1], *response[:-1]], prefix, place)
            for (prompts, response, _), prefix in zip(responses, prefixes, strict=True)
            for place, prompt in enumerate(prompts)
        ]
        hidden = itertools.chain.from_iterable(
            states.split_with_sizes([len(sequence.tokens) for sequence in chunk])
            for chunk, states in self._forwards(sequences)
        )
        for prompts, _, first in responses:
            yield self._pieces(torch.stack(list(itertools.islice(hidden, len(prompts))))[:, first:])

    def _pieces(self, hidden: Tensor) -> Iterator[Tensor]:
        """Yield (K, t, V) logits, given (K, T, hidden) states before the final norm."""
        estimate = DETERMINISTIC_POSITIONS if self.deterministic else self._positions_that_fit(len(hidden))
        yield from self._positions.slices(hidden.shape[1], estimate, lambda part: self._logits(hidden[:, part]))

    @torch.inference_mode()
    def _logits(self, piece: Tensor) -> Tensor:
        model, scorers = self.loaded.model, len(piece)
        normed = self._kernels.norm(piece.reshape(-1, piece.shape[-1]), model.model.norm.weight, self._epsilon)
        rows = normed.chunk(scorers) if self.deterministic else [normed]
        logits = [functional.linear(row, model.lm_head.weight) for row in rows]
        return (logits[0] if len(logits) == 1 else torch.cat(logits)).view(scorers, piece.shape[1], -1)

    def _tokens_that_fit(self) -> int:
        """Return the number of tokens whose activations fit a third of the free memory."""
        layer = self._layers[0]
        widest = 3 * layer.gate_up.shape[0] + 2 * layer.qkv.shape[0] + 8 * layer.down.shape[0]
        # Not a quarter: next to vLLM's engine on an H200 that was sometimes below TOKENS_AT_ONCE, and a different chunk
        # size changes the last bits of the results.
        fit = self.loaded.free_memory() // 3 // (widest * layer.down.itemsize)
        return int(max(256, min(TOKENS_AT_ONCE, fit)))

    def _positions_that_fit(self, scorers: int) -> int:
        """Return the number of positions whose logits fit; comparing them on a GPU needs no copy of that size."""
        return self.loaded.tokens_at_once(scorers, self.loaded.model.dtype.itemsize)

    def _chunks(self, sequences: Sequence[_Sequence]) -> Iterator[list[_Sequence]]:
        """Yield chunks of consecutive sequences, as equal in size as possible and within the token limit."""
        if self.deterministic:
            yield from ([sequence] for sequence in sequences)
            return
        total = sum(len(sequence.tokens) for sequence in sequences)
        goal = total / max(1, math.ceil(total / self._tokens.size))
        chunk, size = list[_Sequence](), 0
        for sequence in sequences:
            if chunk and (size + len(sequence.tokens) / 2 > goal or size + len(sequence.tokens) > self._tokens.size):
                yield chunk
                chunk, size = [], 0
            chunk.append(sequence)
            size += len(sequence.tokens)
        if chunk:
            yield chunk

    @torch.inference_mode()
    def _compute_prefixes(self, missing: list[Prompts]) -> list[_Prefix]:
        sequences = [_Sequence(prompt[:-1]) for prompts in missing for prompt in prompts]
        fed = [sequence for sequence in sequences if sequence.tokens]
        states = [states for _, states in self._forwards(fed, keep=True)]
        lengths = [tuple(len(prompt) - 1 for prompt in prompts) for prompts in missing]
        layer = self._layers[0].qkv
        nothing = layer.new_empty(len(self._layers), 2, 0, self._kv_heads, self._width)
        each = torch.cat([nothing, *states], dim=2).split_with_sizes([sum(group) for group in lengths], dim=2)
        return [_Prefix(part.clone(), group) for part, group in zip(each, lengths, strict=True)]

    def _forwards(self, sequences: Sequence[_Sequence], keep: bool = False) -> Iterator[tuple[list[_Sequence], Tensor]]:
        """Yield each chunk with the result of `_forward`; on out of memory, split the rest into smaller chunks."""
        while sequences:
            for chunk in self._chunks(sequences):
                tokens = sum(len(sequence.tokens) for sequence in chunk)
                if (states := self._tokens.attempt(tokens, self._forward, chunk, keep)) is None:
                    break
                yield chunk, states
                sequences = sequences[len(chunk) :]

    @torch.inference_mode()
    def _forward(self, chunk: Sequence[_Sequence], keep: bool) -> Tensor:
        """Return hidden states (tokens, hidden) after the last block, or with `keep` the `states` of a `_Prefix`."""
        model, layout = self.loaded.model, _layout(chunk, self.loaded.device)
        hidden: Tensor = model.model.embed_tokens(layout.tokens)
        cos, sin = (table[0] for table in model.model.rotary_emb(hidden[None], layout.positions[None]))
        before = _states_before(chunk)
        # One layer's keys and values; each prompt's come directly before those of its sequence.
        states = hidden.new_empty(2, layout.keys, self._kv_heads, self._width)
        kept = list[Tensor]()
        for number, layer in enumerate(self._layers):
            fed = functional.linear(
                self._kernels.norm(hidden, layer.input_norm, self._epsilon), layer.qkv, layer.qkv_bias
            ).view(len(hidden), -1, self._width)
            if layer.head_norms is not None:
                self._norm_heads(fed, layer.head_norms)
            query = self._kernels.rotate(fed, cos, sin, states, layout.own, self._heads)
            if before is not None:
                states.index_copy_(1, layout.before, before[number])
            if keep:  # sequences have no prefix here, so all rows belong to the fed tokens
                kept.append(states.clone())
            attended = _attend(query, states[0], states[1], layout)
            hidden.addmm_(attended.flatten(1), layer.output.T)
            for start in range(0, len(hidden), self._tokens.size):
                rows = hidden[start : start + self._tokens.size]
                normed = self._kernels.norm(rows, layer.mlp_norm, self._epsilon)
                rows.addmm_(self._kernels.gate(functional.linear(normed, layer.gate_up)), layer.down.T)
        return torch.stack(kept) if keep else hidden

    def _norm_heads(self, fed: Tensor, weights: tuple[Tensor, Tensor]) -> None:
        """Apply RMS norm to queries and keys per head, in place."""
        ends = (0, self._heads, self._heads + self._kv_heads)
        for (start, end), weight in zip(itertools.pairwise(ends), weights, strict=True):
            heads = fed[:, start:end]
            heads.copy_(self._kernels.norm(heads.reshape(-1, self._width), weight, self._epsilon).view_as(heads))


class _Layout(NamedTuple):
    """Positions of a chunk's tokens and the rows of its keys."""

    tokens: Tensor
    positions: Tensor
    own: Tensor  # rows of the keys of the fed tokens
    before: Tensor  # rows of the keys of the prompts
    query_ends: Tensor  # (sequences + 1,), int32, from 0
    key_ends: Tensor
    longest: tuple[int, int]  # queries, keys
    keys: int


def _layout(chunk: Sequence[_Sequence], device: torch.device) -> _Layout:
    lengths = torch.tensor([len(sequence.tokens) for sequence in chunk])
    before = torch.tensor([sequence.before for sequence in chunk])
    ends = functional.pad((lengths + before).cumsum(0), (1, 0))
    starts = torch.repeat_interleave(ends[:-1], lengths + before)
    offsets = torch.arange(int(ends[-1])) - starts
    is_own = offsets >= torch.repeat_interleave(before, lengths + before)
    tokens = torch.tensor(list(itertools.chain.from_iterable(sequence.tokens for sequence in chunk)))
    query_ends = functional.pad(lengths.cumsum(0), (1, 0))
    return _Layout(
        tokens=tokens.to(device),
        positions=offsets[is_own].to(device),
        own=is_own.nonzero()[:, 0].to(device),
        before=(~is_own).nonzero()[:, 0].to(device),
        query_ends=query_ends.to(device, torch.int32),
        key_ends=ends.to(device, torch.int32),
        longest=(int(lengths.max()), int((lengths + before).max())),
        keys=int(ends[-1]),
    )


def _states_before(chunk: Sequence[_Sequence]) -> Tensor | None:
    """Return all layers' keys and values of the chunk's prompts, in the order of its sequences."""
    parts, run = list[Tensor](), list[_Sequence]()

    def flush() -> None:
        if run and (prefix := run[0].prefix):
            start = sum(prefix.lengths[: run[0].prompt])
            parts.append(prefix.states[:, :, start : start + sum(sequence.before for sequence in run)])
        run.clear()

    for sequence in chunk:
        if run and (sequence.prefix is not run[0].prefix or sequence.prompt != run[-1].prompt + 1):
            flush()
        run.append(sequence)
    flush()
    return torch.cat(parts, dim=2) if parts else None


def _attend(query: Tensor, keys: Tensor, values: Tensor, layout: _Layout) -> Tensor:
    """Return causal attention within each sequence: a query sees its prompt and the tokens up to its own.

    Args:
        query: (tokens, heads, head width).
    """
    if query.is_cuda and query.dtype != torch.float32:
        # torch.nn.attention.varlen calls this operator; its own signature has changed in every version so far.
        attended: Tensor = torch.ops.aten._flash_attention_forward(
            query, keys, values, layout.query_ends, layout.key_ends, *layout.longest, 0.0, True, False
        )[0]
        return attended
    from torch.nn.attention.bias import causal_lower_right

    out = torch.empty_like(query)
    for (q0, q1), (k0, k1) in zip(
        itertools.pairwise(layout.query_ends.tolist()), itertools.pairwise(layout.key_ends.tolist()), strict=True
    ):
        # (tokens, heads, width) → (1, heads, tokens, width)
        q, k, v = (part.transpose(0, 1)[None] for part in (query[q0:q1], keys[k0:k1], values[k0:k1]))
        mask = causal_lower_right(q1 - q0, k1 - k0)
        out[q0:q1] = functional.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)[0].transpose(0, 1)
    return out


class _Plain:
    """Plain PyTorch versions of the functions in `packed_triton`."""

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
