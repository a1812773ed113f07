"""Scorer that packs many sequences into one row without padding, for Transformers' own modules.

It computes the same as `PrefixScorer`:

- Sequences are concatenated and split into chunks of about equal size, so matrix products are large and there is no
  padding; windows count real positions.
- Each sequence attends to its prompt's cached keys and values and to its own (see `packed_attention`).
- A response is fed in one piece, so each layer's keys and values are freed after the layer.
- The model's head, with whatever it does to logits, runs on the scored positions only.

`choose_scorer` decides which models use this scorer, and `fused` makes it faster for the Llama family.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from persona_assets.inference.hidden_states import text_decoder
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.packed_attention import Packed, layout_of, packed_attention
from persona_assets.inference.scoring.padded import DETERMINISTIC_POSITIONS, Scored, refuse_empty
from persona_assets.inference.scoring.prefixes import PrefixCache, Prompts

# Larger chunks were not faster on an H200, and cost memory.
TOKENS_AT_ONCE = 16_384

# Keys and values of a layer: (tokens, heads, head width) each.
States = dict[int, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Prefix:
    """Keys and values of concatenated prompts, each without its last token."""

    states: States
    lengths: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return sum(int(each.nbytes) for pair in self.states.values() for each in pair)


class Fed(NamedTuple):
    """Tokens to feed, and the cached prompt that precedes them."""

    tokens: Sequence[int]
    prefix: _Prefix | None = None
    prompt: int = 0  # index into the prompts of `prefix`

    @property
    def before(self) -> int:
        return self.prefix.lengths[self.prompt] if self.prefix else 0


class PackedScorer:
    """Scorer for decoders whose attention goes through Transformers' attention interface; see the module docstring.

    Only plain functions enter inference mode. Decorating a generator function with it would keep the last yielded
    logits (2 GiB) alive until the next piece is ready.
    """

    name = "packed"

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, tokens_at_once: int | None = None) -> None:
        """Create the scorer.

        Args:
            deterministic: run one sequence at a time, so that batching cannot affect results.
            tokens_at_once: maximum tokens per chunk; derived from the free memory by default.
        """
        self.loaded, self.deterministic = loaded, deterministic
        self._decoder = text_decoder(loaded.model)
        self._prefixes = PrefixCache[_Prefix](loaded, self._compute_prefixes)
        self._tokens = AdaptiveBatchSize("scoring", "tokens", fixed=deterministic)
        # Deterministic results must not depend on the free memory.
        self._tokens.at_most(tokens_at_once or (TOKENS_AT_ONCE // 4 if deterministic else self._tokens_that_fit()))
        self._positions = AdaptiveBatchSize("scoring", "positions", fixed=deterministic)

    @property
    def plan(self) -> dict[str, Any]:
        tokens = "one sequence" if self.deterministic else f"{self._tokens.size} tokens"
        return {"scorer": f"{self.name}, {tokens} at once", "positions_at_once": self._positions.size}

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
            Fed([prompt[-1], *response[:-1]], prefix, place)
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
        rows = [each[None] for each in piece] if self.deterministic else [piece]
        logits = [self._head(row) for row in rows]
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def _head(self, hidden: Tensor) -> Tensor:
        """Return the logits (K, t, V) of the model's own head, given the output (K, t, hidden) of its decoder."""
        model, decoder, asked = self.loaded.model, self._decoder, list[Any]()

        def give(*arguments: Any, **_: Any) -> Any:
            asked.append(arguments)
            return self._output_type(last_hidden_state=hidden)

        ids = torch.zeros(hidden.shape[:2], dtype=torch.long, device=hidden.device)
        decoder.forward = give  # hides the method
        try:
            logits: Tensor = model(input_ids=ids, use_cache=False).logits
        finally:
            del decoder.forward
        if not asked:  # the logits would be those of `ids`
            raise NotImplementedError(f"{type(model).__name__} does not call {type(decoder).__name__} for its logits")
        return logits

    def _tokens_that_fit(self) -> int:
        """Return the number of tokens whose activations fit a third of the free memory."""
        # Not a quarter: next to vLLM's engine on an H200 that was sometimes below TOKENS_AT_ONCE, and a different chunk
        # size changes the last bits of the results.
        fit = self.loaded.free_memory() // 3 // (self._widest() * self.loaded.model.dtype.itemsize)
        return int(max(256, min(TOKENS_AT_ONCE, fit)))

    def _widest(self) -> int:
        """Return the number of elements that a token's activations take at most in a block."""
        text = self.loaded.model.config.get_text_config(decoder=True)
        inner = getattr(text, "moe_intermediate_size", None) or getattr(text, "intermediate_size", None)
        inner = max(inner) if isinstance(inner, list) else inner or 4 * text.hidden_size  # Gemma 3n: one for each block
        return int(6 * (getattr(text, "num_experts_per_tok", None) or 1) * inner + 16 * text.hidden_size)

    def _positions_that_fit(self, scorers: int) -> int:
        """Return the number of positions whose logits fit; comparing them on a GPU needs no copy of that size."""
        return self.loaded.tokens_at_once(scorers, self.loaded.model.dtype.itemsize)

    def _chunks(self, sequences: Sequence[Fed]) -> Iterator[list[Fed]]:
        """Yield chunks of consecutive sequences, as equal in size as possible and within the token limit."""
        if self.deterministic:
            yield from ([sequence] for sequence in sequences)
            return
        total = sum(len(sequence.tokens) for sequence in sequences)
        goal = total / max(1, math.ceil(total / self._tokens.size))
        chunk, size = list[Fed](), 0
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
        sequences = [Fed(prompt[:-1]) for prompts in missing for prompt in prompts]
        fed = [sequence for sequence in sequences if sequence.tokens]
        states: list[States] = [states for _, states in self._forwards(fed, keep=True)]
        lengths = [tuple(len(prompt) - 1 for prompt in prompts) for prompts in missing]
        sizes = [sum(group) for group in lengths]
        parts: list[States] = [{} for _ in missing]
        for layer in states[0] if states else ():
            for kind in zip(*(chunk[layer] for chunk in states), strict=True):  # keys, then values
                for part, tokens in zip(parts, torch.cat(kind).split_with_sizes(sizes), strict=True):
                    part[layer] = (*part.get(layer, ()), tokens.clone())
        return [_Prefix(part, group) for part, group in zip(parts, lengths, strict=True)]

    def _forwards(self, sequences: Sequence[Fed], keep: bool = False) -> Iterator[tuple[list[Fed], Any]]:
        """Yield each chunk with the result of `_forward`; on out of memory, split the rest into smaller chunks."""
        while sequences:
            for chunk in self._chunks(sequences):
                tokens = sum(len(sequence.tokens) for sequence in chunk)
                if (states := self._tokens.attempt(tokens, self._forward, chunk, keep)) is None:
                    break
                yield chunk, states
                sequences = sequences[len(chunk) :]

    @torch.inference_mode()
    def _forward(self, chunk: Sequence[Fed], keep: bool) -> Tensor | States:
        """Return hidden states (tokens, hidden) for the model's head, or with `keep` the keys and values."""
        device = self.loaded.device
        tokens = torch.tensor(list(itertools.chain.from_iterable(sequence.tokens for sequence in chunk)), device=device)
        lengths = [len(sequence.tokens) for sequence in chunk]
        layout = layout_of(lengths, [sequence.before for sequence in chunk], device)
        packed = Packed(layout, _states_before(chunk), {} if keep else None)
        hidden = self._blocks(tokens, packed)
        return hidden if packed.kept is None else packed.kept

    def _blocks(self, tokens: Tensor, packed: Packed) -> Tensor:
        """Return the decoder's output (tokens, hidden), and fill `packed.kept`."""
        with packed_attention(self.loaded.model):
            output = self._decoder(
                input_ids=tokens[None],
                position_ids=packed.layout.positions[None],
                use_cache=False,
                packed=packed,
            )
        self._output_type: Any = type(output)
        hidden: Tensor = output.last_hidden_state[0]
        return hidden


def _states_before(chunk: Sequence[Fed]) -> States:
    """Return the keys and values of the chunk's prompts, in the order of its sequences."""
    parts, run = list[States](), list[Fed]()

    def flush() -> None:
        if run and (prefix := run[0].prefix):
            start = sum(prefix.lengths[: run[0].prompt])
            end = start + sum(sequence.before for sequence in run)
            parts.append({layer: (k[start:end], v[start:end]) for layer, (k, v) in prefix.states.items()})
        run.clear()

    for sequence in chunk:
        if run and (sequence.prefix is not run[0].prefix or sequence.prompt != run[-1].prompt + 1):
            flush()
        run.append(sequence)
    flush()
    parts = [part for part in parts if part]  # prompts of one token have none
    return {
        layer: (torch.cat([part[layer][0] for part in parts]), torch.cat([part[layer][1] for part in parts]))
        for layer in (parts[0] if parts else ())
    }
