"""Teacher-forcing for the Llama family, fast: many sequences in one row without padding.

What `PrefixScorer` does, with Transformers' weights and without its modules. Sequences are laid end to end and cut
into chunks of about equal size, so matrix products are large and nothing is padded. FlashAttention's entry for
sequences of varying length lets each attend to its prompt's keys and values, computed once, and to its own. A layer's
keys and values are dropped with the layer, for a response is fed whole. Residuals are added by the matrix products;
what is left between them is three functions: here plain, for any device, and as kernels in `packed_triton`.

Both files can be deleted: `choose_scorer` then takes `PrefixScorer`, and numbers agree to rounding. Which models may
come here is said there.
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
from persona_assets.inference.out_of_memory import AtOnce
from persona_assets.inference.scoring.padded import DETERMINISTIC_POSITIONS, Scored, refuse_empty
from persona_assets.inference.scoring.prefixes import KeptPrefixes, Prompts

# Larger chunks were not faster on an H200, and cost memory.
TOKENS_AT_ONCE = 16_384


class _Prefix(NamedTuple):
    """Prompts without their last tokens, end to end."""

    states: Tensor  # (layers, 2 for keys and values, tokens of all prompts, heads, width)
    lengths: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(self.states.nbytes)


class _Sequence(NamedTuple):
    """Tokens to be fed, and the prompt that goes before them."""

    tokens: Sequence[int]
    prefix: _Prefix | None = None
    prompt: int = 0  # which of the prefix's prompts

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
    """Scores with a decoder of the Llama family; see the module's docstring.

    Inference mode is entered by functions and by no generator: around one it would hold what was yielded last, two GiB
    of logits, until the next is there.
    """

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, tokens_at_once: int | None = None) -> None:
        """`deterministic`: one sequence at a time, so that nothing depends on what is beside it.

        Fuses projections of the model in place; the model's own modules go on working with views of them.
        """
        self.loaded, self.deterministic = loaded, deterministic
        model, config = loaded.model, loaded.model.config
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = loaded.head_width
        self._epsilon = config.rms_norm_eps
        self._layers = [_fused(layer) for layer in model.model.layers]
        self._prefixes = KeptPrefixes[_Prefix](loaded, self._compute_prefixes)
        self._tokens = AtOnce("scoring", "tokens", fixed=deterministic)
        # What memory is free must not show in deterministic numbers.
        self._tokens.at_most(tokens_at_once or (TOKENS_AT_ONCE // 4 if deterministic else self._tokens_that_fit()))
        self._positions = AtOnce("scoring", "positions", fixed=deterministic)
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
        """Consecutive responses whose prompts' keys and values may be held at once; one at least."""
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
            for (prompts, response), prefix in zip(responses, prefixes, strict=True)
            for place, prompt in enumerate(prompts)
        ]
        hidden = itertools.chain.from_iterable(
            states.split_with_sizes([len(sequence.tokens) for sequence in chunk])
            for chunk, states in self._forwards(sequences)
        )
        for prompts, _ in responses:
            yield self._pieces(torch.stack(list(itertools.islice(hidden, len(prompts)))))

    def _pieces(self, hidden: Tensor) -> Iterator[Tensor]:
        """(K, t, V) logits from (K, T, hidden) states before the final norm."""
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
        """Tokens whose activations fit a third of the memory that is free."""
        layer = self._layers[0]
        widest = 3 * layer.gate_up.shape[0] + 2 * layer.qkv.shape[0] + 8 * layer.down.shape[0]
        # A quarter was just enough on an H200 beside vLLM's engine, and once a little less: chunks of another size are
        # other last bits.
        fit = self.loaded.free_memory() // 3 // (widest * layer.down.itemsize)
        return int(max(256, min(TOKENS_AT_ONCE, fit)))

    def _positions_that_fit(self, scorers: int) -> int:
        """Positions whose logits fit; on a card nothing of their size stands beside them while they are compared."""
        return self.loaded.tokens_at_once(scorers, self.loaded.model.dtype.itemsize)

    def _chunks(self, sequences: Sequence[_Sequence]) -> Iterator[list[_Sequence]]:
        """Consecutive sequences, in chunks as even as they can be and of at most the tokens that fit."""
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
        """Chunks and what `_forward` makes of them; where memory runs out, what is left is cut into smaller ones."""
        while sequences:
            for chunk in self._chunks(sequences):
                tokens = sum(len(sequence.tokens) for sequence in chunk)
                if (states := self._tokens.attempt(tokens, self._forward, chunk, keep)) is None:
                    break
                yield chunk, states
                sequences = sequences[len(chunk) :]

    @torch.inference_mode()
    def _forward(self, chunk: Sequence[_Sequence], keep: bool) -> Tensor:
        """Hidden states (tokens, hidden) after the last block; with `keep` what a `_Prefix` has of every layer."""
        model, layout = self.loaded.model, _layout(chunk, self.loaded.device)
        hidden: Tensor = model.model.embed_tokens(layout.tokens)
        cos, sin = (table[0] for table in model.model.rotary_emb(hidden[None], layout.positions[None]))
        before = _states_before(chunk)
        # One layer's keys and values, every prompt's in front of its sequence's own.
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
            if keep:  # without anything before them, all rows are the tokens' own
                kept.append(states.clone())
            attended = _attend(query, states[0], states[1], layout)
            hidden.addmm_(attended.flatten(1), layer.output.T)
            for start in range(0, len(hidden), self._tokens.size):
                rows = hidden[start : start + self._tokens.size]
                normed = self._kernels.norm(rows, layer.mlp_norm, self._epsilon)
                rows.addmm_(self._kernels.gate(functional.linear(normed, layer.gate_up)), layer.down.T)
        return torch.stack(kept) if keep else hidden

    def _norm_heads(self, fed: Tensor, weights: tuple[Tensor, Tensor]) -> None:
        """Norms queries and keys, head by head, in place."""
        ends = (0, self._heads, self._heads + self._kv_heads)
        for (start, end), weight in zip(itertools.pairwise(ends), weights, strict=True):
            heads = fed[:, start:end]
            heads.copy_(self._kernels.norm(heads.reshape(-1, self._width), weight, self._epsilon).view_as(heads))


class _Layout(NamedTuple):
    """Where a chunk's tokens stand, and where their keys do."""

    tokens: Tensor
    positions: Tensor
    own: Tensor  # rows of the tokens' own keys
    before: Tensor  # rows of the prompts' keys
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
    """All layers' keys and values of the chunk's prompts, in the order of its sequences."""
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
    """Causal attention within each sequence; query (tokens, heads, width) sees its prompt and what precedes it."""
    if query.is_cuda and query.dtype != torch.float32:
        # What torch.nn.attention.varlen calls; its own signature changed in every version so far.
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
    """What `packed_triton` computes, in plain PyTorch."""

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
    """One weight of several layers, which afterwards hold views of it: nothing is kept twice."""
    weight = torch.cat([linear.weight.data for linear in linears])
    for linear, part in zip(linears, weight.split_with_sizes([linear.out_features for linear in linears]), strict=True):
        linear.weight.data = part
    return weight
