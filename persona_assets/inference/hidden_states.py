"""The residual stream at the end of a prompt: what a centroid is the mean of."""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from persona_assets.inference.loading import LoadedModel
from persona_assets.inference.out_of_memory import AtOnce

# How many prompts a model takes at once: all, until memory runs out. It is found and said once a model.
_prompts_at_once: WeakKeyDictionary[nn.Module, AtOnce] = WeakKeyDictionary()


@torch.inference_mode()
def last_token_states(loaded: LoadedModel, prompts: Sequence[Sequence[int]], blocks: Sequence[int]) -> Tensor:
    """Outputs of decoder blocks at each prompt's last token, without keeping any other layer or position.

    Layer N is the output of block N (`hidden_states[N + 1]`). Transformers' last hidden state has passed the final
    norm; the output of the last block, given here, has not.

    Args:
        prompts: token ids, the opening of the assistant's turn included.
        blocks: numbers of decoder blocks.

    Returns:
        Shape (prompts, blocks, hidden), float32, on the CPU.

    Raises:
        torch.OutOfMemoryError: a single prompt does not fit.
    """
    at_once = _prompts_at_once.setdefault(loaded.model, AtOnce("reading hidden states", "prompts"))
    return torch.cat(
        list(at_once.slices(len(prompts), len(prompts), lambda part: _states(loaded, prompts[part], blocks)))
    )


def _states(loaded: LoadedModel, prompts: Sequence[Sequence[int]], blocks: Sequence[int]) -> Tensor:
    """`last_token_states` of prompts that are padded into one batch."""
    decoder = loaded.model.get_decoder()
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=loaded.device)
    longest = int(lengths.max())
    padded = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in prompts], device=loaded.device)
    rows = torch.arange(len(prompts), device=loaded.device)
    caught: dict[int, Tensor] = {}

    def catch(block: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            there = states.device  # another card than the first, where a model is spread over several
            caught[block] = states[rows.to(there), (lengths - 1).to(there)].float().cpu()

        return hook

    handles = [decoder.layers[block].register_forward_hook(catch(block)) for block in blocks]
    try:
        mask = (torch.arange(longest, device=loaded.device) < lengths[:, None]).long()
        decoder(input_ids=padded, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([caught[block] for block in blocks], dim=1)
