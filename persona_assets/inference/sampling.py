"""Choice of the next token of each row, from its logits: the most likely one, or a sample.

Row n of a call samples with a random generator seeded with (seed, n) and one number per token (inverse transform
sampling), so its tokens depend neither on the other rows nor on how rows are batched.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from persona_assets.study.settings import Decoding

# Tokens whose probabilities are summed before they are searched.
_BLOCK = 256
# Far above the error of a cumulative probability in float32, which is about 1e-7.
_NEAR = 1e-6


def row_seeds(seed: int, rows: Iterable[int]) -> list[int]:
    """Return one random seed per row, which does not depend on how rows are batched."""
    return [seed * 1_000_003 + row for row in rows]


class TokenChooser:
    """Chooses the next token of rows whose numbers in the call are `rows`."""

    def __init__(self, decoding: Decoding, rows: Sequence[int]) -> None:
        self._warpers: list[Any] = []
        self._drawn: Tensor | None = None
        if decoding.method == "greedy":
            return
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        if decoding.temperature != 1:
            self._warpers.append(TemperatureLogitsWarper(decoding.temperature))
        if decoding.top_p < 1:
            self._warpers.append(TopPLogitsWarper(decoding.top_p))
        streams = [torch.Generator().manual_seed(seed) for seed in row_seeds(decoding.seed, rows)]
        numbers = [torch.rand(decoding.max_new_tokens, generator=each, dtype=torch.float64) for each in streams]
        self._drawn = torch.stack(numbers)

    def __call__(self, logits: Tensor, step: int, places: Tensor) -> Tensor:
        """Return the next token of some rows, shape (n,).

        Args:
            logits: shape (n, V), any float dtype.
            step: number of tokens that the rows have so far.
            places: shape (n,), on the CPU: which of the rows these are.
        """
        if self._drawn is None:
            return logits.argmax(-1)
        scores = logits.float()
        for warp in self._warpers:
            scores = warp(None, scores)
        return draw(scores, self._drawn[places, step].to(scores.device))


def draw(scores: Tensor, drawn: Tensor) -> Tensor:
    """Return the token at which each row's cumulative probability, in token order, first exceeds a number.

    Equals `draw_in_float64`. Nearly all rows are decided in float32, in two steps: the block of tokens, then the token.
    Rows whose number is so close to a token's limits that rounding might decide are drawn in float64.

    Args:
        scores: shape (n, V), float32, unnormalised; −inf allowed.
        drawn: shape (n,), float64, in [0, 1).
    """
    rows = torch.arange(len(scores), device=scores.device)
    chances = functional.pad(scores.softmax(-1), (0, -scores.shape[-1] % _BLOCK)).view(len(scores), -1, _BLOCK)
    blocks = chances.sum(-1).double().cumsum(-1)
    wanted = drawn[:, None] * blocks[:, -1:]
    block = _first_above(blocks, wanted)
    before = functional.pad(blocks, (1, 0)).gather(1, block)
    # The limits between the block's tokens, from its start to its end.
    inside = functional.pad(chances[rows, block[:, 0]].double().cumsum(-1), (1, 0)) + before
    place = (_first_above(inside, wanted) - 1).clamp_min(0)
    gap = torch.minimum(wanted - inside.gather(1, place), inside.gather(1, place + 1) - wanted)
    token = (block * _BLOCK + place)[:, 0]
    if len(near := (~(gap[:, 0] > _NEAR)).nonzero()[:, 0]):  # written so that NaN counts as near
        token[near] = draw_in_float64(scores[near], drawn[near])
    return token


def draw_in_float64(scores: Tensor, drawn: Tensor) -> Tensor:
    """Return what `draw` does, computed in float64 throughout."""
    reached = scores.double().softmax(-1).cumsum(-1)
    # Scale by the actual total, which rounding may leave below 1, so that no token without probability is drawn.
    return _first_above(reached, drawn[:, None] * reached[:, -1:])[:, 0]


def _first_above(reached: Tensor, wanted: Tensor) -> Tensor:
    """Return the first place of each row, shape (n, 1), where the rising numbers `reached` exceed `wanted`."""
    return torch.searchsorted(reached, wanted, right=True).clamp_(max=reached.shape[-1] - 1)
