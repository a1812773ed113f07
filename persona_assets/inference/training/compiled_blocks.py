"""Compilation of a model's blocks for training: one kernel for what is element-wise before and after attention."""

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch

from persona_assets.inference.hidden_states import decoder_blocks
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed_attention import why_not_packed_rows

# Tokens of a training from which on compiling is faster than not; 70 s against a fifth of the time on an H200.
_WORTH = 4_000_000


def compiling_pays(loaded: LoadedModel, tokens: int) -> bool:
    """Return whether to compile a model's blocks to train it on this many tokens."""
    return loaded.device.type == "cuda" and tokens >= _WORTH and why_not_packed_rows(loaded.model) is None


class CompiledBlocks(AbstractContextManager[None]):
    """In this context the model's blocks are compiled, for rows of any length; outside of it they are as before.

    The first block is not compiled: its input has no gradient, so it would be compiled on its own.
    """

    def __init__(self, model: Any) -> None:
        self._blocks = list(decoder_blocks(model))[1:]
        self._compiled = [torch.compile(block._call_impl, dynamic=True) for block in self._blocks]

    def __enter__(self) -> None:
        for block, compiled in zip(self._blocks, self._compiled, strict=True):
            block._compiled_call_impl = compiled

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for block in self._blocks:
            block._compiled_call_impl = None
