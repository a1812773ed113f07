"""Recognises weights that were saved from inside a wrapper: torch.compile, DistributedDataParallel, FSDP, PEFT."""

from collections.abc import Iterable
from pathlib import Path

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.files.reading import named
from persona_assets.files.safetensors_files import Header

# Part of a tensor's name → what put it there, and how to get the weights without it.
WRAPPERS = {
    "_orig_mod": ("torch.compile", "save `model._orig_mod` instead of the compiled model"),
    "_fsdp_wrapped_module": ("FSDP", "save with `fsdp_state_dict_type: FULL_STATE_DICT`"),
    "_checkpoint_wrapped_module": ("activation checkpointing", "save the model without that wrapper"),
}
FIRST = {"module": ("DistributedDataParallel or DeepSpeed", "save `model.module` instead of the wrapper")}
LORA = ("lora_A", "lora_B", "base_layer")


def require_own_names(files: Iterable[Path], headers: Iterable[Header]) -> None:
    """Require that weights are stored under the model's own names.

    Transformers matches weights by name: it would leave out wrapped ones and initialise the model at random instead.

    Args:
        files, headers: weight files and what their headers say, in the same order.

    Raises:
        CheckpointError: names the first tensor with a wrapper's name, the wrapper, and how to save the weights.
    """
    for file, header in zip(files, headers, strict=True):
        for name in header.content:
            parts = name.split(".")
            part = next((part for part in parts if part in WRAPPERS), parts[0] if parts[0] in FIRST else None)
            if part is not None:
                wrapper, advice = (WRAPPERS | FIRST)[part]
                raise CheckpointError(
                    f"{file}: {named(name, 200)}: found {part}. of {wrapper} in the name; expected the model's own "
                    f"names; {advice}",
                    final=True,
                )
            if any(part in LORA for part in parts):
                raise CheckpointError(
                    f"{file}: {named(name, 200)}: found a LoRA layer inside the model; expected whole weights; save "
                    "the adapter on its own and register it by --adapter, or call merge_and_unload() before saving",
                    final=True,
                )
