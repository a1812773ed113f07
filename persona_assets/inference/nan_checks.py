"""Where a model's numbers cease to be numbers: what to look at when a result is NaN."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel


class NonFiniteError(RuntimeError):
    """A model gave NaN or infinity; says in which layer, at which position and token it began."""


@torch.inference_mode()
def where_not_finite(loaded: LoadedModel, token_ids: Sequence[int]) -> str:
    """The first place whose output is not finite, the first such position, and the token there, in words.

    Places are the token embeddings and the decoder blocks ("layer N" as everywhere). From the block behind it on,
    attention carries what is no number to every position, so the first place is the one to look at.
    """
    found: list[tuple[str, int]] = []

    def watching(place: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            states: Tensor = output[0] if isinstance(output, tuple) else output
            bad = ~torch.isfinite(states[0]).all(-1)
            if not found and bool(bad.any()):
                found.append((place, int(bad.int().argmax())))

        return hook

    handles = [loaded.model.get_input_embeddings().register_forward_hook(watching("the token embeddings"))]
    for block, layer in enumerate(loaded.model.get_decoder().layers):
        handles.append(layer.register_forward_hook(watching(f"layer {block}")))
    try:
        logits = loaded.model(torch.tensor([list(token_ids)], device=loaded.device), use_cache=False).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    if found:
        place, position = found[0]
    else:
        bad = torch.isnan(logits).any(-1) | torch.isposinf(logits).any(-1)  # a token may be forbidden, by −inf
        if not bool(bad.any()):
            return "a plain forward pass of the same tokens is finite"
        place, position = "the logits, after finite layers", int(bad.int().argmax())
    token = token_ids[position]
    text = loaded.chat.tokenizer.decode([token])
    return f"it begins in {place}, at position {position} of {len(token_ids)}, token {token} ({text!r})"
