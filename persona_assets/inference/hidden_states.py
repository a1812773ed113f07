"""Residual-stream states at the last prompt token, of which centroids are means."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from persona_assets.checkpoints import CheckpointError
from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AdaptiveBatchSize

# Prompts per batch for each model, kept so that running out of memory happens and is logged once per model.
_prompts_at_once: WeakKeyDictionary[nn.Module, AdaptiveBatchSize] = WeakKeyDictionary()


@torch.inference_mode()
def last_token_states(loaded: LoadedModel, prompts: Sequence[Sequence[int]], blocks: Sequence[int]) -> Tensor:
    """Return the outputs of decoder blocks at each prompt's last token; other layers and positions are not kept.

    Layer N is the output of block N (`hidden_states[N + 1]` in Transformers). For the last block this is the state
    before the final norm, whereas the last hidden state of Transformers is after it.

    Args:
        prompts: token ids, including the opening of the assistant's turn.
        blocks: indices of decoder blocks.

    Returns:
        Shape (prompts, blocks, hidden), float32, on the CPU.

    Raises:
        torch.OutOfMemoryError: a single prompt does not fit in memory.
    """
    at_once = _prompts_at_once.setdefault(loaded.model, AdaptiveBatchSize("reading hidden states", "prompts"))
    return torch.cat(
        list(at_once.slices(len(prompts), len(prompts), lambda part: _states(loaded, prompts[part], blocks)))
    )


def _states(loaded: LoadedModel, prompts: Sequence[Sequence[int]], blocks: Sequence[int]) -> Tensor:
    """Compute `last_token_states` for one batch, right-padded: later tokens do not affect earlier ones."""
    modules = decoder_blocks(loaded.model)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=loaded.device)
    longest = int(lengths.max())
    padded = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=loaded.device)
    rows = torch.arange(len(prompts), device=loaded.device)
    caught: dict[int, Tensor] = {}

    def catch(block: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, (tuple, list)) else output
            if states.dim() == 4:  # AltUp (Gemma 3n): parallel streams, of which the active one is the residual stream
                states = states[loaded.model.config.get_text_config().altup_active_idx]
            device = states.device  # not the first GPU if the model is spread over several
            caught[block] = states[rows.to(device), (lengths - 1).to(device)].float().cpu()

        return hook

    handles = [modules[block].register_forward_hook(catch(block)) for block in blocks]
    try:
        mask = (torch.arange(longest, device=loaded.device) < lengths[:, None]).long()
        loaded.model.base_model(input_ids=padded, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([caught[block] for block in blocks], dim=1)


def decoder_blocks(model: Any) -> nn.ModuleList:
    """Return the blocks of the text decoder, whatever the architecture calls them.

    Raises:
        CheckpointError: no list of modules has as many entries as the configuration has blocks.
    """
    config = model.config.get_text_config()
    places = [model.get_decoder()] if hasattr(model, "get_decoder") else []
    for place in (*places, model):  # some models call their head a decoder
        for module in place.modules():
            if isinstance(module, nn.ModuleList) and len(module) == config.num_hidden_layers:
                return module
    raise CheckpointError(
        f"{type(model).__name__} has no list of its {config.num_hidden_layers} blocks; hidden states cannot be read"
    )


def text_decoder(model: Any) -> Any:
    """Return the module between embeddings and head that contains the blocks."""
    blocks = decoder_blocks(model)
    places = [model.get_decoder()] if hasattr(model, "get_decoder") else []
    return next(place for place in (*places, model.base_model) if any(each is blocks for each in place.modules()))
