"""Sizes of a model, read from config.json as Transformers reads it.

Many configurations leave out what equals the default of their class (Gemma 3), or name it otherwise (`n_layer`).
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.checkpoints.json_files import json_object
from persona_assets.files.reading import shortened, shown

LARGEST_SIZE = 10**9  # upper limit of every model dimension
# Name in `Identity` → field of config.json.
SIZES = {"blocks": "num_hidden_layers", "hidden": "hidden_size", "vocabulary": "vocab_size"}


def model_sizes(file: Path, config: dict[str, Any]) -> dict[str, int]:
    """Return the `blocks`, `hidden` and `vocabulary` of `Identity`.

    Args:
        file: config.json; read again, by Transformers, if it leaves a size out.
        config: its content.

    Raises:
        CheckpointError: a size is missing or invalid; names file, field, what was found and what was expected.
    """
    text = config.get("text_config") or config
    if not isinstance(text, dict):
        raise CheckpointError(f"{file}: text_config: found {shown(text)}; expected a JSON object")
    if any(text.get(field) is None for field in SIZES.values()):
        read = text_config(file)
        text = {field: read.get(field) if text.get(field) is None else text[field] for field in SIZES.values()}
    return {size: _number(file, text, field) for size, field in SIZES.items()}


def text_config(file: Path) -> dict[str, Any]:
    """Return a configuration with all defaults of its class, under Transformers' usual names; of its text part if any.

    Raises:
        CheckpointError: Transformers does not know the architecture, or cannot read the file.
    """
    config = read_config(file).get_text_config(decoder=True)
    usual = {name: getattr(config, name, None) for name in (*SIZES.values(), *config.attribute_map)}
    return {**config.to_dict(), **usual}


def read_config(file: Path) -> Any:
    """Return a config.json as Transformers' configuration class reads it.

    Raises:
        CheckpointError: Transformers does not know the architecture, or cannot read the file.
    """
    from transformers import AutoConfig  # imported here because most configurations are complete
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = json_object(file)
    kind = config.get("model_type")
    if isinstance(kind, str) and kind not in CONFIG_MAPPING:
        own_code = "; code from the checkpoint (auto_map) is not run" if config.get("auto_map") else ""
        raise CheckpointError(
            f"{file}: model_type: found {shown(kind)}; expected an architecture that the installed Transformers "
            f"{version('transformers')} knows{own_code}",
            final=True,
        )
    try:
        return AutoConfig.from_pretrained(file, trust_remote_code=False)
    except Exception as error:  # an invalid configuration can raise any exception
        problem = " ".join(shortened(error, 500).split()) or type(error).__name__
        raise CheckpointError(f"{file} cannot be read by Transformers: {problem}") from error


def _number(file: Path, config: dict[str, Any], field: str) -> int:
    value = config.get(field)
    if type(value) is not int or not 0 < value <= LARGEST_SIZE:
        raise CheckpointError(
            f"{file}: {field}: found {shown(value)}; expected a whole number from 1 to {LARGEST_SIZE}"
        )
    return value
