"""Checks of a LoRA adapter's files, alone and against its base model; only headers and small files are read.

Whatever these checks cannot tell is checked again when the adapter is loaded; see `inference.adapters`.
"""

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.checkpoints.files import (
    TOKENIZER_FILES,
    VOCABULARY_FILES,
    read_weights,
    require_own_files,
    stored_template,
    tokenizer_files,
)
from persona_assets.checkpoints.json_files import json_object
from persona_assets.files.reading import named, shown
from persona_assets.files.safetensors_files import Tensor
from persona_assets.files.tensor_bytes import is_zero

LORA_TENSOR = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector)(\.\w+)*$")
BLOCK = re.compile(r"(.*?\.)(\d+)\.")
# Settings of PEFT under which a merged adapter would be another model, or that this project does not know.
UNSUPPORTED = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "megatron_config",
    "monteclora_config",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)


class AdapterFiles(NamedTuple):
    """Files of a complete LoRA adapter.

    Attributes:
        config: content of adapter_config.json.
        chat_template: its own chat template; None if it has none.
        tokenizer: its own tokenizer files; empty if it has none.
    """

    weights: list[Path]
    config: dict[str, Any]
    tensors: dict[str, Tensor]
    chat_template: str | None
    tokenizer: list[Path]


def adapter_files(directory: Path) -> AdapterFiles:
    """Return the files of a LoRA adapter after checking that it is complete, safe to load, and changes the model.

    Raises:
        CheckpointError: a file is missing, truncated, damaged or pickled, or the adapter is not a LoRA, holds no
            weights, changes nothing, or has a setting that cannot be merged.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{directory} does not exist; expected the directory of a LoRA adapter")
    require_own_files(directory)
    weights, headers = read_weights(directory, "adapter_model")
    file, config = directory / "adapter_config.json", json_object(directory / "adapter_config.json")
    if [each.name for each in weights] != ["adapter_model.safetensors"]:
        raise CheckpointError(
            f"{directory} contains {weights[0].name}; expected one file adapter_model.safetensors, the only one that "
            "PEFT reads"
        )
    tensors = headers[0].content
    empty = [name for name, tensor in tensors.items() if 0 in tensor.shape]
    if not tensors or empty:
        raise CheckpointError(
            f"{weights[0]} holds no weights{f' for {named(empty[0])}' if empty else ''}; expected the trained tensors; "
            "DeepSpeed ZeRO-3 writes such files if the weights are saved before they are gathered from all processes"
        )
    _require_lora(file, config, headers[0].largest)
    if _changes_nothing(weights[0], tensors):
        raise CheckpointError(
            f"{weights[0]} changes nothing: every product of lora_B and lora_A is 0, as before the first training step"
        )
    return AdapterFiles(weights, config, tensors, stored_template(directory), _own_tokenizer(directory))


def require_fit(adapter: AdapterFiles, base: Mapping[str, Tensor]) -> None:
    """Reject an adapter whose tensors no module of the base model takes, or lack, as far as the files can tell.

    Args:
        base: tensors of the base model, which are not quantised.

    Raises:
        CheckpointError: names the first such tensor and how many there are.
    """
    weights = {name.removesuffix(".weight"): each for name, each in base.items() if name.endswith(".weight")}
    modules = {name: _module(name) for name in adapter.tensors}
    adapted = {module for name, module in modules.items() if module and ".lora_" in name}
    file, targets = adapter.weights[0], adapter.config.get("target_modules")
    # Transformers renames and joins the tensors of some architectures; then only loading tells.
    families = {match[1] for module in adapted & set(weights) if (match := BLOCK.match(module))}
    blocks = {match.group() for module in weights if (match := BLOCK.match(module)) and match[1] in families}

    def of_family(module: str) -> bool:
        match = BLOCK.match(module)
        return match is not None and match[1] in families and "experts" not in module

    beyond = [
        name
        for name, module in modules.items()
        if module in adapted and of_family(module) and BLOCK.match(module).group() not in blocks  # type: ignore[union-attr]
    ]
    if beyond:
        raise CheckpointError(f"{file}: {_counted(beyond)}: the base model has no such block; expected {len(blocks)}")
    if isinstance(targets, list) and not adapter.config.get("target_parameters"):
        unnamed = [
            name
            for name, module in modules.items()
            if module in adapted and "experts" not in str(module) and not _targeted(str(module), targets)
        ]
        if unnamed:
            raise CheckpointError(
                f"{file}: {_counted(unnamed)}: target_modules of adapter_config.json does not name this module, so "
                f"PEFT would drop the tensor; found {shown(targets)}"
            )
        limits = ("layers_to_transform", "layers_pattern", "exclude_modules")
        if not any(adapter.config.get(field) for field in limits):
            missing = [
                module
                for module, weight in weights.items()
                if of_family(module) and len(weight.shape) == 2 and _targeted(module, targets) and module not in adapted
            ]
            if missing:
                raise CheckpointError(
                    f"{file} has no weights for {_counted(missing)}, which target_modules of adapter_config.json names"
                )
    for name, module in modules.items():
        side = 1 if name.endswith(".lora_A.weight") else 0 if name.endswith(".lora_B.weight") else None
        weight, tensor = weights.get(module or ""), adapter.tensors[name]
        if side is None or weight is None or len(weight.shape) != 2 or len(tensor.shape) != 2:
            continue
        if tensor.shape[side] not in weight.shape:
            raise CheckpointError(
                f"{file}: {named(name, 200)}: found shape {list(tensor.shape)}; expected {weight.shape[side]} "
                f"{'columns' if side else 'rows'}, since the base model's weight has shape {list(weight.shape)}"
            )


def _module(name: str) -> str | None:
    """Return the module that a LoRA tensor belongs to, as the base model names it; None for other tensors."""
    match = LORA_TENSOR.search(name)
    return name[: match.start()].removeprefix("base_model.model.") if match else None


def _targeted(module: str, targets: list[Any]) -> bool:
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _counted(names: list[str]) -> str:
    return named(names[0], 200) + (f" ({len(names)} in total)" if len(names) > 1 else "")


def _changes_nothing(file: Path, tensors: dict[str, Tensor]) -> bool:
    """Return whether each module's product B·A is 0 and there is nothing but such products."""
    if any(not re.search(r"\.lora_(embedding_)?[AB](\.\w+)*$", name) for name in tensors):
        return False
    of_module = groupby(sorted(tensors, key=lambda name: str(_module(name))), key=_module)
    return all(any(is_zero(file, tensors[name]) for name in names) for _, names in of_module)


def _require_lora(file: Path, config: dict[str, Any], largest: int) -> None:
    """Reject adapters that are unsafe to load or cannot be merged.

    Other PEFT types load a tokenizer named in the file, and PEFT allocates memory for the stated rank before it reads
    the weights.
    """
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{file}: peft_type: found {shown(config.get('peft_type'))}; expected 'LORA'")
    for field in UNSUPPORTED:
        if config.get(field):
            raise CheckpointError(
                f"{file}: {field}: found {shown(config[field])}; expected a LoRA adapter without it, since it cannot "
                "be merged into the weights"
            )
    if config.get("lora_alpha") == 0 and not config.get("alpha_pattern"):
        raise CheckpointError(f"{file}: lora_alpha: found 0; expected another number, since 0 removes the adapter")
    patterns = config.get("rank_pattern") or {}
    if not isinstance(patterns, dict):
        raise CheckpointError(f"{file}: rank_pattern: found {shown(patterns)}; expected module → rank")
    for field, rank in {
        "r": config.get("r", 1),
        **{f"rank_pattern.{named(k)}": r for k, r in patterns.items()},
    }.items():
        if type(rank) is not int or not 0 < rank <= largest:
            raise CheckpointError(
                f"{file}: {field}: found {shown(rank)}; expected a whole number from 1 to {largest}, the largest "
                "dimension of the adapter's weights"
            )


def _own_tokenizer(directory: Path) -> list[Path]:
    present = [name for name in TOKENIZER_FILES if (directory / name).is_file()]
    if set(present) & set(VOCABULARY_FILES):
        return tokenizer_files(directory)
    # A file that holds nothing but the template is common; others would change token ids or the end of a turn.
    if others := [name for name in present if name != "tokenizer_config.json" or not _only_template(directory / name)]:
        raise CheckpointError(
            f"{directory}: found {others[0]} without a vocabulary; expected tokenizer.json beside it, or no tokenizer "
            "file at all, so that the base model's tokenizer is used"
        )
    return []


def _only_template(file: Path) -> bool:
    return set(json_object(file)) == {"chat_template"}
