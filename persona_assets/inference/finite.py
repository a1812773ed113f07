"""Where a model's numbers cease to be numbers: what to look at when a result is NaN."""

from collections.abc import Sequence

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel


class NonFiniteError(RuntimeError):
    """A model gave NaN or infinity; says in which layer, at which position and token it began."""


@torch.inference_mode()
def where_not_finite(loaded: LoadedModel, token_ids: Sequence[int]) -> str:
    """The first decoder block whose output is not finite, the first such position, and the token there, in words."""
    found: list[tuple[int, int]] = []

    def watch(block: int, states: Tensor) -> None:
        bad = ~torch.isfinite(states[0]).all(-1)
        if not found and bool(bad.any()):
            found.append((block, int(bad.int().argmax())))

    blocks = loaded.model.get_decoder().layers
    handles = [
        layer.register_forward_hook(
            lambda _module, _inputs, output, block=block: watch(
                block, output[0] if isinstance(output, tuple) else output
            )
        )
        for block, layer in enumerate(blocks)
    ]
    try:
        logits = loaded.model(torch.tensor([list(token_ids)], device=loaded.device), use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    place, position = f"layer {found[0][0]}" if found else "", found[0][1] if found else 0
    if not found:
        bad = torch.isnan(logits).any(-1) | torch.isposinf(logits).any(-1)  # a token may be forbidden, by −inf
        if not bool(bad.any()):
            return "a plain forward pass of the same tokens is finite"
        place, position = "the logits, after finite layers", int(bad.int().argmax())
    token = token_ids[position]
    text = loaded.chat.tokenizer.decode([token])
    return f"it begins in {place}, at position {position} of {len(token_ids)}, token {token} ({text!r})"
