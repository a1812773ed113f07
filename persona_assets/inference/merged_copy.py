"""A copy of a checkpoint with its adapters merged, for engines that load neither adapters nor quantised weights."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from persona_assets.checkpoints import Checkpoint
from persona_assets.checkpoints.json_files import json_object
from persona_assets.inference.loading import Hardware, load_model


def save_merged(
    checkpoint: Checkpoint,
    hardware: Hardware,
    directory: Path,
    say: Callable[[str], None] = print,
    marker_adapter: Path | None = None,
) -> None:
    """Save a checkpoint with its adapter and a marker's merged into it, and a config.json that describes the copy."""
    loaded = load_model(checkpoint, replace(hardware, matmul="torch"), say, marker_adapter)
    loaded.model.save_pretrained(directory)
    file = checkpoint.directory() / "config.json"
    found = json_object(file)
    true = described(found, loaded.model)
    if true == found:
        # The engine compares configurations to decide whether it can swap weights in place.
        shutil.copy(file, directory)
    else:
        (directory / "config.json").write_text(json.dumps(true, indent=2, sort_keys=True), encoding="utf-8")


def described(config: dict[str, Any], model: Any) -> dict[str, Any]:
    """Return a config.json with what differs in the model that was made from it: tie, vocabulary, dtype, quantisation.

    Fields that already say so, or that are left out because they equal the default, stay as they are.
    """
    text, parsed = model.config.get_text_config(), model.config
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    dtype = str(model.dtype).removeprefix("torch.")

    def true(part: dict[str, Any], of: Any) -> dict[str, Any]:
        changed = {key: value for key, value in part.items() if key != "quantization_config"}
        if "vocab_size" in part or of is text:
            rows = model.get_input_embeddings().weight.shape[0]
            if part.get("vocab_size", rows) != rows:
                changed["vocab_size"] = rows
        if not tied and part.get("tie_word_embeddings", type(of)().tie_word_embeddings):
            changed["tie_word_embeddings"] = False
        for field in ("dtype", "torch_dtype"):
            if part.get(field, dtype) != dtype:
                changed[field] = dtype
        return changed

    whole = true(config, parsed)
    if isinstance(config.get("text_config"), dict):
        whole["text_config"] = true(config["text_config"], text)
    return whole
