"""Scorer that feeds every sequence whole, alone and without a cache: exact for any causal model.

Padding or a cached prefix would change the state of recurrent layers, and of models that count positions from the
start of the row. Since a causal model's logits do not depend on later tokens, a piece of a response needs only the
tokens before its end.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.scoring.padded import DETERMINISTIC_POSITIONS, Scored, refuse_empty


class WholeScorer:
    """Scorer for recurrent and hybrid models; a plain forward pass over prompt and response."""

    def __init__(self, loaded: LoadedModel, deterministic: bool = False, why: str | None = None) -> None:
        """Create the scorer.

        Args:
            deterministic: use pieces of fixed length, so that the free memory cannot affect results.
            why: why this scorer was chosen, shown in `plan`.
        """
        self.loaded, self.deterministic, self._why = loaded, deterministic, why
        self._positions = AdaptiveBatchSize("scoring", "positions", fixed=deterministic)

    @property
    def plan(self) -> dict[str, Any]:
        way = "whole sequences, one at a time" + (f": {self._why}" if self._why else "")
        return {"scorer": way, "positions_at_once": self._positions.size}

    def logits(self, responses: Sequence[Scored]) -> Iterator[Iterator[Tensor]]:
        """See `Scorer`."""
        refuse_empty(responses)
        for scored in responses:
            yield self._pieces(scored)

    def _pieces(self, scored: Scored) -> Iterator[Tensor]:
        prompts, response, first = scored
        estimate = DETERMINISTIC_POSITIONS if self.deterministic else self._positions_that_fit(len(prompts))
        at_once = self.loaded.tokens_at_once(len(prompts))  # how many positions can be compared at once

        def logits(part: slice) -> Tensor:
            start, stop = first + part.start, first + part.stop
            return torch.stack([whole_logits(self.loaded.model, prompt, response, start, stop) for prompt in prompts])

        for piece in self._positions.slices(len(response) - first, estimate, logits):
            yield from torch.split(piece, at_once, dim=1)

    def _positions_that_fit(self, scorers: int) -> int:
        """Return the number of positions whose logits fit in a quarter of the free memory."""
        row = scorers * self.loaded.vocabulary * self.loaded.model.dtype.itemsize
        return int(max(1, self.loaded.free_memory() // 4 // row))


@torch.inference_mode()
def whole_logits(model: Any, prompt: Sequence[int], response: Sequence[int], start: int, stop: int) -> Tensor:
    """Return the logits of response positions `start` to `stop`, by a plain forward pass: alone, unpadded, uncached.

    Returns:
        Shape (stop - start, V), the model's dtype.
    """
    fed = torch.tensor([[*prompt, *response[: stop - 1]]], device=model.device)
    output = model(input_ids=fed, use_cache=False, logits_to_keep=stop - start)
    logits: Tensor = output.logits[0, start - stop :]  # models without `logits_to_keep` return all positions
    return logits
