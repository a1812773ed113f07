"""Diagnosis of NaN and infinite model outputs."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from persona_assets.inference.loading import LoadedModel


class NonFiniteError(RuntimeError):
    """Model output with NaN or infinity; the message names the first affected layer, position and token."""


@torch.inference_mode()
def where_not_finite(loaded: LoadedModel, token_ids: Sequence[int]) -> str:
    """Describe the first module whose output is not finite, with the first such position and its token.

    The modules are the token embeddings, the decoder blocks ("layer N" as everywhere) and the logits. In later blocks
    attention spreads NaN to other positions, so only the first module points to the cause.
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
        bad = torch.isnan(logits).any(-1) | torch.isposinf(logits).any(-1)  # −inf is valid: it forbids a token
        if not bool(bad.any()):
            return "a plain forward pass over the same tokens is finite"
        place, position = "the logits, after finite layers", int(bad.int().argmax())
    token = token_ids[position]
    text = loaded.chat.tokenizer.decode([token])
    return f"first non-finite output in {place}, at position {position} of {len(token_ids)}, token {token} ({text!r})"
