"""Teacher-forcing: one response under the prompts of K scorers.

The contract is about ids: what was generated is what is scored. Position t of a response is predicted from the prompt
and the response's tokens before t, so the first prediction comes from the prompt's last token.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel


class Scorer(Protocol):
    """Gives the distributions that K prompts predict along one response."""

    def log_probs(self, prompts: Sequence[Sequence[int]], response: Sequence[int]) -> Iterator[Tensor]:
        """Natural-log probabilities of the response's positions in consecutive chunks, each (K, t, V), float32."""
        ...


@dataclass(frozen=True)
class _Prefix:
    """K prompts without their last tokens, as keys and values, right-padded to one length."""

    cache: Any
    mask: Tensor  # (K, longest)
    lengths: Tensor  # (K, 1)
    last_tokens: Tensor  # (K, 1)


class PrefixScorer:
    """Scores with any Transformers decoder; the prompts' keys and values are computed once and used for every response.

    All generators answer the same questions, so the K prompts of a question meet K responses: keeping their keys and
    values halves the work of short responses. A response is fed in pieces that bound the memory of K×t×V logits.
    """

    def __init__(self, loaded: LoadedModel, prefixes_kept: int = 64) -> None:
        self.loaded = loaded
        self.prefixes_kept = prefixes_kept
        self._prefixes: OrderedDict[tuple[tuple[int, ...], ...], _Prefix] = OrderedDict()

    @torch.inference_mode()
    def log_probs(self, prompts: Sequence[Sequence[int]], response: Sequence[int]) -> Iterator[Tensor]:
        """See `Scorer`.

        Raises:
            ValueError: an empty response has no positions.
        """
        if not response:
            raise ValueError("the response has no tokens; expected at least one to score")
        prefix, device = self._prefix(prompts), self.loaded.device
        # The model's layers replace their tensors when they grow, so a shallow copy leaves the kept prefix as it is.
        cache = copy.copy(prefix.cache)
        cache.layers = [copy.copy(layer) for layer in prefix.cache.layers]
        following = torch.tensor(response[:-1], dtype=torch.long, device=device).expand(len(prompts), -1)
        fed = torch.cat([prefix.last_tokens, following], dim=1)
        at_once = self.loaded.tokens_at_once(len(prompts))
        for start in range(0, fed.shape[1], at_once):
            piece = fed[:, start : start + at_once]
            end = start + piece.shape[1]
            yield self._forward(piece, cache, prefix, start, end).float().log_softmax(-1)

    def _forward(self, piece: Tensor, cache: Any, prefix: _Prefix, start: int, end: int) -> Tensor:
        seen = prefix.mask.new_ones(len(piece), end)
        output = self.loaded.model(
            input_ids=piece,
            attention_mask=torch.cat([prefix.mask, seen], dim=1),
            position_ids=prefix.lengths + torch.arange(start, end, device=piece.device),
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = output.logits
        return logits

    def _prefix(self, prompts: Sequence[Sequence[int]]) -> _Prefix:
        key = tuple(map(tuple, prompts))
        if key not in self._prefixes:
            self._prefixes[key] = self._compute_prefix(key)
            if len(self._prefixes) > self.prefixes_kept:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(key)
        return self._prefixes[key]

    def _compute_prefix(self, prompts: tuple[tuple[int, ...], ...]) -> _Prefix:
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
