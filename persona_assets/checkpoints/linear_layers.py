"""Names of the linear layers in a model's decoder blocks, which a marker's LoRA adapter can be trained on.

The names are told from the weights' names, so that they can be known without PyTorch.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from persona_assets.files.safetensors_files import Tensor

BLOCK = re.compile(r"(^|\.)\d+\.")
# Parts of a module's path that are not the decoder of text, and layers that choose between experts.
ELSEWHERE = re.compile(
    r"(^|\.)(experts|mtp|(vision|visual|audio|image|speech|multi_modal|mm_|embed)\w*|\w*(router|embeddings?))(\.|$)"
)
GATES = frozenset({"gate", "gating", "shared_expert_gate", "relative_attention_bias"})
# Families whose kernels read the output projection's weight themselves, so that PEFT refuses an adapter on it.
FUSED_OUTPUT = frozenset({"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"})
# Not in a block; a recipe may name them.
OUTSIDE = frozenset({"embed_out", "embed_tokens", "lm_head", "wte"})

# What the shipped recipes train.
USUAL_LAYERS = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})


class TrainedModules(NamedTuple):
    """Modules that an adapter is trained on, by the last part of their names.

    Attributes:
        names: those of the recipe, or all linear layers of the blocks if some of the recipe's match nothing.
        unmatched: those of the recipe that match nothing in the model.
    """

    names: list[str]
    unmatched: list[str]


def linear_layers(names: Iterable[str], model_type: str) -> list[str]:
    """Return the last parts of the names of the linear layers in the decoder's blocks, sorted.

    Routers, experts that are kept in one tensor, embeddings, the head, and towers for images or sound are left out.

    Args:
        names: of all modules with a matrix, such as `model.layers.0.self_attn.q_proj`.
        model_type: Transformers' name of the architecture.
    """
    inside = {name.rpartition(".")[2] for name in names if BLOCK.search(name) and not ELSEWHERE.search(name)}
    fused = {"out_proj", "conv1d"} if model_type in FUSED_OUTPUT else set()
    return sorted(name for name in inside - GATES - fused if not name.isdigit())


def unusual_layers(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> str | None:
    """Return a model's linear layers, separated by commas; None if all layers of the shipped recipes are among them.

    Args:
        tensors: the stored weights.
        config: content of config.json.
    """
    matrices = [name for name, tensor in tensors.items() if name.endswith(".weight") and len(tensor.shape) == 2]
    text = config.get("text_config") or config
    kind = str(text.get("model_type") or config.get("model_type"))
    found = linear_layers((name.removesuffix(".weight") for name in matrices), kind)
    return None if set(found) >= USUAL_LAYERS else ", ".join(found)


def trained_modules(wanted: Sequence[str], linear: Sequence[str]) -> TrainedModules:
    """Return the modules that a recipe trains on a model.

    Args:
        wanted: the recipe's `lora.modules`.
        linear: see `linear_layers`.
    """
    unmatched = [name for name in wanted if name.rpartition(".")[2] not in {*linear, *OUTSIDE}]
    return TrainedModules(list(linear) if unmatched and linear else list(wanted), unmatched)
