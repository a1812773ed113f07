"""Teacher-forcing: responses under the prompts of K scorers.

The contract is about ids: what was generated is what is scored. Position t of a response is predicted from the prompt
and the response's tokens before t, so the first prediction comes from the prompt's last token.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.prefixes import KeptPrefixes

# Positions a piece where results must not depend on how much memory is free.
DETERMINISTIC_POSITIONS = 128


class Scored(NamedTuple):
    """A response and the K prompts under which it is teacher-forced, all as token ids."""

    prompts: Sequence[Sequence[int]]
    response: Sequence[int]


class Scorer(Protocol):
    """Gives the distributions that K prompts predict along each of some responses."""

    def logits(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """For each response, in order, the unnormalised logits of its positions in consecutive pieces.

        A piece has shape (K, t, V) and the model's dtype, and is to be used before the next one is asked for.

        Raises:
            ValueError: a response has no tokens, and so no positions.
        """
        ...

    @property
    def plan(self) -> dict[str, Any]:
        """How the work is cut, for a person to read."""
        ...


def refuse_empty(responses: Sequence[Scored]) -> None:
    for number, scored in enumerate(responses):
        if not scored.response:
            raise ValueError(f"response {number} has no tokens; expected at least one to score")


@dataclass(frozen=True)
class _Prefix:
    """K prompts without their last tokens, as keys and values, right-padded to one length."""

    cache: Any
    mask: Tensor  # (K, longest)
    lengths: Tensor  # (K, 1)
    last_tokens: Tensor  # (K, 1)

    @property
    def bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.cache.layers if layer.keys is not None)


class PrefixScorer:
    """Scores with any Transformers decoder; the prompts' keys and values are computed once and used for every response.

    All generators answer the same questions, so the K prompts of a question meet K responses: keeping their keys and
    values halves the work of short responses. A response is fed in pieces that bound the memory of K×t×V logits.
    """

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, why: str | None = None) -> None:
        """`deterministic`: one scorer at a time, in pieces of fixed length; nothing depends on what is beside it.

        `why`: the reason for this way, for the plan.
        """
        self.loaded, self.deterministic, self._why = loaded, deterministic, why
        self._prefixes = KeptPrefixes[_Prefix](loaded, lambda missing: [self._prefix(prompts) for prompts in missing])
        self._positions = 0

    @property
    def plan(self) -> dict[str, Any]:
        way = "transformers, one response at a time" + (f": {self._why}" if self._why else "")
        return {"scorer": way, "positions_at_once": self._positions}

    @torch.inference_mode()
    def logits(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """See `Scorer`."""
        refuse_empty(responses)
        for prompts, response in responses:
            if self.deterministic:
                self._positions = DETERMINISTIC_POSITIONS
                alone = [self._pieces([prompt], response, self._positions) for prompt in prompts]
                yield map(torch.cat, zip(*alone, strict=True))
            else:
                self._positions = self.loaded.tokens_at_once(len(prompts))
                yield self._pieces(prompts, response, self._positions)

    @torch.inference_mode()
    def _pieces(self, prompts: Sequence[Sequence[int]], response: Sequence[int], at_once: int) -> Iterator[Tensor]:
        (prefix,) = self._prefixes([prompts])
        # The model's layers replace their tensors when they grow, so a shallow copy leaves the kept prefix as it is.
        cache = copy.copy(prefix.cache)
        cache.layers = [copy.copy(layer) for layer in prefix.cache.layers]
        following = torch.tensor(response[:-1], dtype=torch.long, device=self.loaded.device).expand(len(prompts), -1)
        fed = torch.cat([prefix.last_tokens, following], dim=1)
        for start in range(0, fed.shape[1], at_once):
            piece = fed[:, start : start + at_once]
            end = start + piece.shape[1]
            seen = prefix.mask.new_ones(len(piece), end)
            yield self.loaded.model(
                input_ids=piece,
                attention_mask=torch.cat([prefix.mask, seen], dim=1),
                position_ids=prefix.lengths + torch.arange(start, end, device=piece.device),
                past_key_values=cache,
                use_cache=True,
            ).logits

    def _prefix(self, prompts: Sequence[Sequence[int]]) -> _Prefix:
        from transformers import DynamicCache

        device, longest = self.loaded.device, max(len(prompt) for prompt in prompts) - 1
        padded = [[*prompt[:-1], *[0] * (longest - len(prompt) + 1)] for prompt in prompts]
        lengths = torch.tensor([[len(prompt) - 1] for prompt in prompts], device=device)
        mask = (torch.arange(longest, device=device) < lengths).long()
        cache = DynamicCache()
        if longest:
            self.loaded.model(
                input_ids=torch.tensor(padded, device=device),
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        return _Prefix(cache, mask, lengths, torch.tensor([[prompt[-1]] for prompt in prompts], device=device))
