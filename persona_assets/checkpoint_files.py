"""The files that make a checkpoint: which they are, and whether they are all there, whole and safe.

Weights are opened for their headers only, never read.
"""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

SAFE_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model")
PICKLED_WEIGHTS = ("pytorch_model*.bin", "adapter_model*.bin", "model*.bin", "model*.pt", "consolidated*.pt*", "*.ckpt")
VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")  # one of them makes a tokenizer
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)


class CheckpointError(ValueError):
    """A checkpoint that cannot be measured; the message names the file and says why."""


class ModelFiles(NamedTuple):
    """What a complete model directory holds; `shape` has Identity's blocks, hidden and vocabulary."""

    configs: tuple[dict[str, Any], dict[str, Any]]
    shape: dict[str, int]
    shards: list[Path]
    chat_template: str
    tokenizer: list[Path]


def model_files(name: str, directory: Path) -> ModelFiles:
    """The files of a complete, safe model directory; `name` is that of the checkpoint, for the errors.

    Raises:
        CheckpointError: a file that is missing, cut, damaged or pickled.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{name}: {directory} is not there; expected a Hugging Face model directory")
    config = _json(directory / "config.json")
    generation = directory / "generation_config.json"  # names the end-of-turn tokens
    sizes = {"blocks": "num_hidden_layers", "hidden": "hidden_size", "vocabulary": "vocab_size"}
    text_config = config.get("text_config") or config
    return ModelFiles(
        configs=(config, _json(generation) if generation.is_file() else {}),
        shape={size: _number(directory, text_config, field) for size, field in sizes.items()},
        shards=weight_files(directory),
        chat_template=chat_template(directory),
        tokenizer=_tokenizer_files(directory),
    )


def adapter_files(directory: Path) -> tuple[list[Path], dict[str, Any]]:
    """The weights of a complete, safe LoRA adapter, and the content of its adapter_config.json.

    Raises:
        CheckpointError: a file that is missing, cut, damaged or pickled.
    """
    return weight_files(directory, "adapter_model"), _json(directory / "adapter_config.json")


def weight_files(directory: Path, stem: Literal["model", "adapter_model"] = "model") -> list[Path]:
    """A directory's safetensors files in the order of their names, each of them whole.

    Raises:
        CheckpointError: a file that is missing, cut, or pickled.
    """
    for pattern in PICKLED_WEIGHTS:
        if pickled := sorted(directory.glob(pattern)):
            raise CheckpointError(
                f"{pickled[0]} holds pickled weights, which can run code when they are read; "
                "expected safetensors only: convert it, or remove it if the same weights are there as safetensors"
            )
    index = directory / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = _json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{index}: weight_map: found {shards!r}; expected the names of the shards")
        names = sorted({str(name) for name in shards.values()})
    else:
        names = [f"{stem}.safetensors"]
    files = [directory / name for name in names]
    for file in files:
        if not file.is_file() and index.is_file():
            raise CheckpointError(
                f"{index} names {file.name}, which is not there; "
                "the checkpoint is still being written or was copied in part"
            )
        if not file.is_file():
            raise CheckpointError(f"{file} is not there; expected weights as safetensors")
        _whole(file)
    return files


def _whole(file: Path) -> None:
    """safetensors compares the header's offsets with the file's size when it opens a file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file: {error}; it is still being written or was cut"
        ) from error


def chat_template(directory: Path) -> str:
    """The chat template that the tokenizer carries, from its own file or from tokenizer_config.json.

    Raises:
        CheckpointError: there is none, so a persona's system prompt has no place.
    """
    file = directory / "chat_template.jinja"
    try:
        if file.is_file() and (text := file.read_text(encoding="utf-8")).strip():
            return text
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{file} cannot be read as text: {error}; it is still being written or is damaged"
        ) from error
    config = directory / "tokenizer_config.json"
    template = _json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):  # several named templates: the tokenizer takes this one
        named = [entry for entry in template if isinstance(entry, dict)]
        template = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    if not template:
        raise CheckpointError(
            f"{directory}: no chat template in chat_template.jinja or tokenizer_config.json; "
            "expected one, since a persona is a system prompt; is this a base model?"
        )
    return str(template)


def _tokenizer_files(directory: Path) -> list[Path]:
    present = [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]
    if not {file.name for file in present} & set(VOCABULARY_FILES):
        raise CheckpointError(f"{directory}: no tokenizer; expected tokenizer.json")
    return present


def _number(directory: Path, config: dict[str, Any], field: str) -> int:
    if not isinstance(config, dict) or not isinstance(value := config.get(field), int):
        found = value if isinstance(config, dict) else config
        raise CheckpointError(f"{directory / 'config.json'}: {field}: found {found!r}; expected a whole number")
    return value


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{file} is not there; the checkpoint is incomplete") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{file} cannot be read as JSON: {error}; it is still being written or is damaged"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: found {type(content).__name__}; expected a JSON object")
    return content
