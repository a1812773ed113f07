"""Compilation of a model's blocks for training: one kernel for what is element-wise before and after attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from persona_assets.inference.hidden_states import decoder_blocks
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.packed_attention import why_not_packed_rows

# Tokens of a training from which on compiling is faster than not; 70 s against a fifth of the time on an H200.
COMPILED_FROM = 4_000_000


def compiling_pays(loaded: LoadedModel, tokens: int) -> bool:
    """Return whether to compile a model's blocks to train it on this many tokens."""
    return loaded.device.type == "cuda" and tokens >= COMPILED_FROM and why_not_packed_rows(loaded.model) is None


@contextmanager
def compiled_blocks(model: Any) -> Iterator[None]:
    """Compile the model's blocks, for rows of any length, until the context ends.

    What cannot be compiled runs uncompiled. The first block is left alone: its input has no gradient, so it would be
    compiled on its own.
    """
    blocks: list[Any] = list(decoder_blocks(model))[1:]
    with torch._dynamo.config.patch(suppress_errors=True):
        for block in blocks:
            block._compiled_call_impl = torch.compile(block._call_impl, dynamic=True)  # as `Module.compile` does
        try:
            yield
        finally:
            for block in blocks:
                block._compiled_call_impl = None
