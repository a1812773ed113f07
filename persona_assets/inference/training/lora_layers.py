"""Layers that a marker's LoRA adapter is trained on, and how much of the model that is."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from persona_assets.checkpoints.linear_layers import BLOCK, ELSEWHERE, TrainedModules, linear_layers, trained_modules
from persona_assets.study.recipe import Lora


class AdaptedLayers(NamedTuple):
    """What an adapter consists of.

    Attributes:
        modules: names of the adapted layers, and those of the recipe that match nothing.
        parameters: number of trained parameters.
        share: trained parameters per parameter of the model.
        adapted: share of the weights in the blocks' matrices that have an adapter.
        inputs: sum of the input features of all layers with an adapter.
    """

    modules: TrainedModules
    parameters: int
    share: float
    adapted: float
    inputs: int


def modules_of(model: torch.nn.Module, lora: Lora) -> TrainedModules:
    """Return the modules of a model that a recipe trains an adapter on."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    ]
    config: Any = model.config
    return trained_modules(lora.modules, linear_layers(linear, config.get_text_config().model_type))


def add_adapter(model: Any, lora: Lora, say: Callable[[str], None] = lambda _: None) -> tuple[Any, AdaptedLayers]:
    """Return the model with a new LoRA adapter beside its weights, and what it consists of.

    Args:
        say: told if modules of the recipe match nothing in this model.
    """
    from peft import LoraConfig, get_peft_model

    modules = modules_of(model, lora)
    adapted: Any = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            use_rslora=lora.rank_stabilised,
            target_modules=modules.names,
            exclude_modules=rf".*{ELSEWHERE.pattern}.*" if modules.unmatched else None,
        ),
    )
    layers = {name: module for name, module in adapted.named_modules() if hasattr(module, "lora_A")}
    own = [weight for weight in adapted.parameters() if weight.requires_grad]
    frozen = {name: weight for name, weight in adapted.named_parameters() if not weight.requires_grad}
    matrices = sum(each.numel() for name, each in frozen.items() if each.dim() > 1 and BLOCK.search(name))
    covered = sum(_weight(layer).numel() for name, layer in layers.items() if BLOCK.search(name))
    trained = sum(weight.numel() for weight in own)
    if modules.unmatched:
        say(
            f"marker.lora.modules: {', '.join(modules.unmatched)} match nothing in this model; training all linear "
            f"layers of its blocks: {', '.join(modules.names)}, {covered / max(1, matrices):.0%} of their weights"
        )
    return adapted, AdaptedLayers(
        modules,
        trained,
        trained / sum(weight.numel() for weight in frozen.values()),
        covered / max(1, matrices),
        sum(layer.in_features for layer in layers.values()),
    )


def _weight(layer: Any) -> Any:
    """Return the frozen matrix that an adapted layer belongs to; PEFT wraps fused experts as parameters."""
    return layer.get_param() if hasattr(layer, "get_param") else layer.base_layer.weight
