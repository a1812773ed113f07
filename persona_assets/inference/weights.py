"""Reading of a model's weights with Transformers: all of them and no others, dequantised."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.json_files import json_object
from persona_assets.checkpoints.quantisation import quantisation_of
from persona_assets.files.reading import named, shortened

if TYPE_CHECKING:
    from persona_assets.inference.loading import Hardware


def load_weights(name: str, directory: Path, hardware: "Hardware") -> Any:
    """Return the causal language model of a directory, in the hardware's dtype and with its attention.

    Only safetensors weights are read, and no code from the directory runs.

    Args:
        name: the checkpoint's name, for error messages.

    Raises:
        CheckpointError: Transformers cannot load the model, weights are missing or unknown to it, or config.json says
            that two different matrices are tied.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    file = directory / "config.json"
    method = quantisation_of(file, json_object(file))
    dtype = getattr(torch, hardware.dtype)
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        if method and not method.startswith("bitsandbytes"):
            config.quantization_config["dequantize"] = True
        model, found = AutoModelForCausalLM.from_pretrained(
            directory,
            config=config,
            dtype=dtype,
            attn_implementation=hardware.attention,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **_placed(hardware),
        )
        if method:
            model = _dequantised(model, dtype)
    except Exception as error:  # an invalid configuration can raise any exception
        problem = shortened(error) or type(error).__name__
        raise CheckpointError(f"{name}: {directory} cannot be loaded: {problem}") from error
    if missing := sorted(found["missing_keys"]):  # Transformers initialises them randomly
        raise CheckpointError(
            f"{name}: {directory} has no weights for {missing[0]} ({len(missing)} missing in total); "
            "expected every weight that config.json requires"
        )
    if unknown := sorted(found["unexpected_keys"]):  # Transformers drops them
        raise CheckpointError(
            f"{name}: {directory} has weights that {type(model).__name__} does not use: {named(unknown[0], 200)} "
            f"({len(unknown)} in total); expected only weights of the architecture that config.json names"
        )
    require_true_tie(name, directory, model)
    return model


def require_true_tie(name: str, directory: Path, model: Any) -> None:
    """Require that embedding and head are the same matrix if the configuration says so.

    Transformers keeps both where they differ, other engines read only the embedding.

    Raises:
        CheckpointError: they differ.
    """
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False):
        return
    layers = model.get_output_embeddings(), model.get_input_embeddings()
    first, second = (getattr(layer, "weight", None) for layer in layers)
    if first is None or second is None or first is second or first.shape != second.shape:
        return
    if not torch.equal(first.to(second.device), second):
        raise CheckpointError(
            f"{name}: {directory / 'config.json'}: tie_word_embeddings: found true, but the stored output matrix is "
            "not the embedding; expected false"
        )


def _dequantised(model: Any, dtype: torch.dtype) -> Any:
    """Return the model with plain weights only."""
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        model = model.dequantize(dtype=dtype)
    for left_over in ("_weight_conversions", "hf_quantizer"):  # otherwise save_pretrained would quantise again
        if hasattr(model, left_over):
            delattr(model, left_over)
    model = model.to(dtype)
    if (left := _quantised_layer(model)) is not None:
        raise ValueError(f"{left} is still quantised after loading")
    return model


def _quantised_layer(model: nn.Module) -> str | None:
    return next((name for name, weight in model.named_parameters() if not weight.dtype.is_floating_point), None)


def _placed(hardware: "Hardware") -> dict[str, Any]:
    """Return the arguments with which Transformers loads weights directly onto one GPU, or blocks onto several."""
    if hardware.device == "cpu":
        return {}
    if hardware.tensor_parallel == 1:
        return {"device_map": hardware.device}
    free = {card: torch.cuda.mem_get_info(card)[0] for card in range(hardware.tensor_parallel)}
    return {"device_map": "balanced", "max_memory": free}
