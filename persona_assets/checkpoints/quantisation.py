"""Quantisation methods of checkpoints: which are dequantised when they are loaded, and which are refused.

A quantised checkpoint is measured with its dequantised weights: the numbers that it stores, computed in the study's
dtype. All that is scored, trained and merged then works as for plain weights, on every device.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.files.reading import named, shown
from persona_assets.files.safetensors_files import Header

# Method → library that Transformers needs to dequantise it; None if it needs none.
DEQUANTISED = {"fp8": None, "mxfp4": None, "bitsandbytes": "bitsandbytes"}
# Types of quantised weights, as safetensors names them.
PACKED = frozenset({"F4", "F6_E2M3", "F6_E3M2", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "I32", "U32"})
# Those of them that no plain weight has: floating-point numbers can be cast, integers need a scale.
INTEGERS = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "F4"})
# Methods that are not dequantised → the library that runs them in Transformers.
LIBRARIES = {
    "aqlm": "aqlm",
    "auto-round": "auto-round",
    "awq": "gptqmodel",
    "bitnet": "accelerate",
    "compressed-tensors": "compressed-tensors",
    "eetq": "kernels",
    "fbgemm_fp8": "fbgemm-gpu",
    "fp_quant": "fp_quant",
    "gptq": "gptqmodel",
    "higgs": "flute-kernel",
    "hqq": "hqq",
    "quanto": "optimum-quanto",
    "quark": "amd-quark",
    "spqr": "spqr_quant",
    "torchao": "torchao",
    "vptq": "vptq",
}


def quantisation_of(file: Path, config: Mapping[str, Any]) -> str | None:
    """Return the quantisation method of a config.json, such as `fp8` or `bitsandbytes 4-bit`; None if there is none.

    Args:
        file: for error messages.

    Raises:
        CheckpointError: the method is not one that can be dequantised here; names the library that is missing.
    """
    settings = config.get("quantization_config") or (config.get("text_config") or {}).get("quantization_config")
    if not settings:
        return None
    field = f"{file}: quantization_config"
    if not isinstance(settings, dict):
        raise CheckpointError(f"{field}: found {shown(settings)}; expected a JSON object")
    bits = {"load_in_4bit": "bitsandbytes 4-bit", "load_in_8bit": "bitsandbytes 8-bit"}
    method = settings.get("quant_method") or next(("bitsandbytes" for flag in bits if settings.get(flag)), None)
    if method not in DEQUANTISED:
        library = LIBRARIES.get(method) if isinstance(method, str) else None
        needs = f", which needs the library {library}" if library else ""
        raise CheckpointError(
            f"{field}: quant_method: found {shown(method)}{needs} and cannot be dequantised here; "
            f"expected one of {sorted(DEQUANTISED)}, or the model before it was quantised"
        )
    if (library := DEQUANTISED[method]) and find_spec(library) is None:
        raise CheckpointError(
            f"{field}: quant_method: found {method!r}, but the library {library} is not installed; install it with "
            f"`pip install {library}`, or register the model before it was quantised"
        )
    return next((what for flag, what in bits.items() if settings.get(flag)), str(method))


def require_quantised(file: Path, method: str, headers: Sequence[Header]) -> None:
    """Require that some weight is stored in 8 bits or fewer, as config.json says.

    Raises:
        CheckpointError: all weights are plain ones.
    """
    if not any(tensor.dtype in PACKED for header in headers for tensor in header.content.values()):
        raise CheckpointError(
            f"{file}: quantization_config: found {method}, but all stored weights are plain; "
            "expected no quantization_config, or quantised weights"
        )


def require_plain(file: Path, headers: Sequence[Header]) -> None:
    """Require floating-point weights where config.json names no quantisation.

    Raises:
        CheckpointError: a weight is stored as integers, which Transformers would take for the weight's own numbers.
    """
    for header in headers:
        for name, tensor in header.content.items():
            if tensor.dtype in INTEGERS and name.endswith(".weight"):
                raise CheckpointError(
                    f"{file}: quantization_config: found none, but {named(name, 200)} is stored as {tensor.dtype}; "
                    "expected floating-point weights, or a quantization_config that says how to read them"
                )
