"""The scorer interface, and an implementation that works with any Transformers decoder.

Scorers receive token ids, so the scored tokens are exactly the generated ones (no re-tokenisation). Position t of a
response is predicted from the prompt and the response tokens before t; the first prediction therefore comes from the
last prompt token.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.scoring.prefixes import PrefixCache

# Positions per piece in deterministic mode, where results must not depend on the free memory.
DETERMINISTIC_POSITIONS = 128
# Tokens per batch of responses to one prompt each; more are not faster.
BATCH_TOKENS = {"cpu": 1024, "cuda": 16_384}


class Scored(NamedTuple):
    """A response and the K prompts under which it is teacher-forced, all as token ids.

    Attributes:
        first: the first position to score; earlier tokens are context only.
    """

    prompts: Sequence[Sequence[int]]
    response: Sequence[int]
    first: int = 0


class Scorer(Protocol):
    """Computes next-token logits along each response under K prompts."""

    def logits(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """Yield, for each response in order, an iterator over the logits of consecutive pieces of its positions.

        A piece has shape (K, t, V) and the model's dtype. Consume it before requesting the next one.

        Raises:
            ValueError: a response has no tokens.
        """
        ...

    @property
    def plan(self) -> dict[str, Any]:
        """Describe the scorer and its batch sizes, for display."""
        ...


def refuse_empty(responses: Sequence[Scored]) -> None:
    for number, scored in enumerate(responses):
        if len(scored.response) <= scored.first:
            raise ValueError(f"response {number} has no tokens; expected at least one to score")


@dataclass(frozen=True)
class _Prefix:
    """Keys and values of K prompts without their last tokens, left-padded to one length.

    Transformers counts attention windows in slots of the cache, so padding must not come between prompt and response.
    """

    cache: Any
    mask: Tensor  # (K, longest)
    lengths: Tensor  # (K, 1)
    last_tokens: Tensor  # (K, 1)

    def copied(self) -> Any:
        """Return a copy of the cache that can be extended without changing the original.

        A shallow copy is enough, because cache layers replace their tensors when they grow.
        """
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return cache

    def beginnings(self, rows: Tensor, kept: Tensor, longest: int) -> Any:
        """Return a new cache with a row for each of `rows`: the first `kept` tokens of that prompt, left-padded.

        Args:
            rows: indices of prompts, (R,).
            kept: number of tokens of each row, (R, 1), at most `longest`.
        """
        from transformers import DynamicCache

        if longest == 0:
            return DynamicCache()
        width, cache = self.mask.shape[1], self.copied()
        slots = torch.arange(longest, device=rows.device) + width - self.lengths[rows] + kept - longest
        index = (rows[:, None, None], slots.clamp_min(0)[:, None])

        def taken(states: Tensor) -> Tensor:
            row, slot = (part.to(states.device) for part in index)  # a model may be spread over several cards
            return states[row, torch.arange(states.shape[1], device=states.device)[:, None], slot]

        for layer in cache.layers:
            if layer.keys is not None:
                layer.keys, layer.values = taken(layer.keys), taken(layer.values)
        return cache

    @property
    def bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers if layer.keys is not None)


class PrefixScorer:
    """Scorer for any Transformers decoder that caches the prompts' keys and values.

    All generators answer the same questions, so the same K prompts are used with K responses; caching their keys and
    values halves the work for short responses. A response is fed in pieces to bound the memory of K×t×V logits.
    Responses to a single prompt each are fed in batches.

    Only plain functions enter inference mode. Decorating a generator function with it would keep the last yielded
    tensor alive.
    """

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, why: str | None = None) -> None:
        """Create the scorer.

        Args:
            deterministic: run one prompt at a time in pieces of fixed length, so that batching cannot affect results.
            why: why this scorer was chosen, shown in `plan`.
        """
        self.loaded, self.deterministic, self._why = loaded, deterministic, why
        self._prefixes = PrefixCache[_Prefix](loaded, lambda missing: [self._prefix(prompts) for prompts in missing])
        self._positions = AdaptiveBatchSize("scoring", "positions", fixed=deterministic)
        self._prompt_positions = AdaptiveBatchSize("reading prompts", "positions", fixed=deterministic)
        self._rows = AdaptiveBatchSize("scoring", "responses")

    @property
    def plan(self) -> dict[str, Any]:
        way = "transformers, one response at a time" + (f": {self._why}" if self._why else "")
        return {"scorer": way, "positions_at_once": self._positions.size}

    def logits(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """See `Scorer`."""
        refuse_empty(responses)
        if (at_once := self._responses_that_fit(responses)) > 1:
            for start in range(0, len(responses), at_once):
                yield from self._together(responses[start : start + at_once])
            return
        for prompts, response, first in responses:
            if self.deterministic:
                alone = [self._pieces([prompt], response, first, DETERMINISTIC_POSITIONS) for prompt in prompts]
                yield self._joined(alone)
            else:
                yield self._pieces(prompts, response, first, self.loaded.tokens_at_once(len(prompts)))

    def _responses_that_fit(self, responses: Sequence[Scored]) -> int:
        """Return how many responses have logits and prompts that fit in memory together; 1 if each is fed alone."""
        if self.deterministic or any(len(scored.prompts) != 1 for scored in responses):
            return 1
        positions = max(len(scored.response) - scored.first for scored in responses)
        prompt_bytes = self.loaded.state_bytes_a_token * max(len(scored.prompts[0]) for scored in responses)
        return min(self.loaded.tokens_at_once(1) // positions, self._prefixes.budget // prompt_bytes)

    def _together(self, group: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """Yield the logits of responses to one prompt each, fed in batches of similar length."""
        prompts = list(dict.fromkeys(tuple(scored.prompts[0]) for scored in group))
        (prefix,) = self._prefixes([prompts])
        place = {prompt: number for number, prompt in enumerate(prompts)}
        order = sorted(range(len(group)), key=lambda number: len(group[number].response))
        longest = len(group[order[-1]].response)
        estimate = min(
            max(1, BATCH_TOKENS[self.loaded.device.type] // longest),
            self.loaded.rows_at_once(max(map(len, prompts)) + longest),
        )

        def ends(part: slice) -> dict[int, Tensor]:
            rows = [(place[tuple(group[number].prompts[0])], group[number]) for number in order[part]]
            return dict(zip(order[part], self._ends(prefix, rows), strict=True))

        found: dict[int, Tensor] = {}
        for batch in self._rows.slices(len(group), estimate, ends):
            found |= batch
        for number in range(len(group)):
            yield iter([found.pop(number)])

    @torch.inference_mode()
    def _ends(self, prefix: _Prefix, rows: Sequence[tuple[int, Scored]]) -> list[Tensor]:
        """Return the logits (1, t, V) of each row: the number of its prompt in `prefix`, and its response.

        Rows end at the same place, so that the head runs on the scored positions only. A row with a short response is
        fed the end of its prompt again instead of padding, because padding may not come after the prompt.
        """
        device, fed = self.loaded.device, max(len(scored.response) for _, scored in rows)
        texts = [[*scored.prompts[0], *scored.response[:-1]] for _, scored in rows]
        ids = torch.tensor([[0] * (fed - len(text)) + text[-fed:] for text in texts], device=device)
        lengths = torch.tensor([[len(text)] for text in texts], device=device)
        before = max(0, max(map(len, texts)) - fed)
        mask = (torch.arange(before + fed, device=device) >= before + fed - lengths).long()
        numbers = torch.tensor([number for number, _ in rows], device=device)
        cache = prefix.beginnings(numbers, (lengths - fed).clamp_min(0), before)
        counts = [len(scored.response) - scored.first for _, scored in rows]
        logits = self._feed(ids, mask, lengths - fed, cache, max(counts))
        return [row[None, -count:] for row, count in zip(logits, counts, strict=True)]

    def _joined(self, alone: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
        """Join the (1, t, V) pieces of K scorers into (K, t, V) pieces."""
        # Not zip(), which would keep the last pieces alive.
        while parts := [part for each in alone if (part := next(each, None)) is not None]:
            if (joined := self._positions.attempt(parts[0].shape[1], torch.cat, parts)) is not None:
                yield joined
            del parts, joined

    def _pieces(
        self, prompts: Sequence[Sequence[int]], response: Sequence[int], first: int, estimate: int
    ) -> Iterator[Tensor]:
        """Yield (K, t, V) logits from position `first` on; `estimate` is the number of positions expected to fit."""
        (prefix,) = self._prefixes([prompts])
        following = torch.tensor(response[:-1], dtype=torch.long, device=self.loaded.device).expand(len(prompts), -1)
        fed = torch.cat([prefix.last_tokens, following], dim=1)
        before, mask = prefix.mask.shape[1], torch.cat([prefix.mask, prefix.mask.new_ones(fed.shape)], dim=1)
        cache, start, given = prefix.copied(), 0, first
        while start < fed.shape[1]:
            piece = fed[:, start : start + self._positions.at_most(estimate)]
            end = start + piece.shape[1]
            seen, position = mask[:, : before + end], prefix.lengths + start
            scored = max(1, end - given)  # the head runs on these positions only
            logits = self._positions.attempt(piece.shape[1], self._feed, piece, seen, position, cache, scored)
            if logits is None:  # some layers may already contain the piece: restart, and skip positions already yielded
                cache, start = prefix.copied(), 0
                continue
            if end > given:
                yield logits[:, given - end :]
                given = end
            del logits  # free the piece before the next one is computed, unless the caller keeps it
            start = end

    @torch.inference_mode()
    def _feed(self, piece: Tensor, seen: Tensor, first: Tensor, cache: Any, logits_to_keep: int) -> Tensor:
        """Return the logits of a (K, t) piece and extend the cache.

        Args:
            first: positions (K, 1) of the first tokens; those of padding are negative.
        """
        logits: Tensor = self.loaded.model(
            input_ids=piece,
            attention_mask=seen,
            position_ids=(first + torch.arange(piece.shape[1], device=piece.device)).clamp_min(0),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        ).logits
        return logits

    @torch.inference_mode()
    def _prefix(self, prompts: Sequence[Sequence[int]]) -> _Prefix:
        from transformers import DynamicCache

        device, longest = self.loaded.device, max(len(prompt) for prompt in prompts) - 1
        padded = torch.tensor([[*[0] * (longest - len(prompt) + 1), *prompt[:-1]] for prompt in prompts], device=device)
        lengths = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=device)
        mask = (torch.arange(longest, device=device) >= longest - lengths).long()
        cache, start = DynamicCache(), 0
        while start < longest:
            piece = padded[:, start : start + self._prompt_positions.at_most(longest)]
            seen, first = mask[:, : start + piece.shape[1]], lengths - longest + start
            if self._prompt_positions.attempt(piece.shape[1], self._feed, piece, seen, first, cache, 1) is None:
                cache, start = DynamicCache(), 0
            else:
                start += piece.shape[1]
        return _Prefix(cache, mask, lengths, torch.tensor([[prompt[-1]] for prompt in prompts], device=device))
