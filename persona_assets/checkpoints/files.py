"""Checks that a checkpoint's files are complete, intact and safe to load.

Only the headers of weight files are read.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.checkpoints.json_files import json_object
from persona_assets.checkpoints.model_sizes import SIZES, model_sizes
from persona_assets.checkpoints.quantisation import quantisation_of, require_plain, require_quantised
from persona_assets.checkpoints.sharded_state import sharded_state
from persona_assets.checkpoints.tied_weights import require_one_matrix
from persona_assets.checkpoints.unsupported import require_measurable
from persona_assets.checkpoints.wrapped_weights import require_own_names
from persona_assets.files import own_files
from persona_assets.files.reading import (
    MIB,
    UnreadableError,
    named,
    read_text,
    shown,
)
from persona_assets.files.safetensors_files import Header, Tensor, read_header

SAFE_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model")
PICKLED_WEIGHTS = ("pytorch_model*.bin", "adapter_model*.bin", "model*.bin", "model*.pt", "consolidated*.pt*", "*.ckpt")
VOCABULARY_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
)  # at least one is required
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
LARGEST_INDEX, LARGEST_TEMPLATE, LARGEST_TOKENIZER = 32 * MIB, MIB, 128 * MIB


class ModelFiles(NamedTuple):
    """Files of a complete model directory.

    Attributes:
        configs: content of config.json and of generation_config.json.
        shape: the `blocks`, `hidden` and `vocabulary` of `Identity`.
        tensors: all stored weights by name.
        quantisation: its method; None if the weights are not quantised.
    """

    configs: tuple[dict[str, Any], dict[str, Any]]
    shape: dict[str, int]
    shards: list[Path]
    chat_template: str
    tokenizer: list[Path]
    tensors: dict[str, Tensor]
    quantisation: str | None


def model_files(name: str, directory: Path, tokenizer: Path | None = None) -> ModelFiles:
    """Return the files of a model directory, after checking that it is complete and safe to load.

    Args:
        name: the checkpoint's name, for error messages.
        tokenizer: directory whose tokenizer or chat template is used if the model's own has none.

    Raises:
        CheckpointError: a file is missing, truncated, damaged or pickled, weights have the names of a wrapper, or
            config.json states sizes that do not fit the weights.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{name}: {directory} does not exist; expected a Hugging Face model directory")
    require_own_files(directory)
    if not any(directory.glob("*.safetensors")) and (parts := sharded_state(directory)) is not None:
        raise CheckpointError(parts, final=True)
    require_model(directory)
    config = json_object(directory / "config.json")
    generation = directory / "generation_config.json"  # names the end-of-turn tokens
    require_measurable(directory / "config.json", config)
    shape = model_sizes(directory / "config.json", config)
    quantisation = quantisation_of(directory / "config.json", config)
    if (directory / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{directory} contains adapter_config.json beside a model's config.json, and Transformers would apply that "
            "adapter by itself; expected them in two directories, with the adapter registered by --adapter"
        )
    shards, headers = read_weights(directory, "model")
    require_own_names(shards, headers)
    if quantisation:
        require_quantised(directory / "config.json", quantisation, headers)
    else:
        require_plain(directory / "config.json", headers)
    packed = 16 if quantisation else 1  # numbers of two bits or more, stored in integers of at most 32
    _require_sizes(directory / "config.json", {field: shape[size] for size, field in SIZES.items()}, headers, packed)
    require_one_matrix(directory / "config.json", config, dict(zip(shards, headers, strict=True)))
    return ModelFiles(
        configs=(config, json_object(generation) if generation.is_file() else {}),
        shape=shape,
        shards=shards,
        chat_template=chat_template(directory, tokenizer),
        tokenizer=tokenizer_files(tokenizer_directory(directory, tokenizer)),
        tensors={name: tensor for header in headers for name, tensor in header.content.items()},
        quantisation=quantisation,
    )


def require_own_files(directory: Path) -> None:
    """Check that all checkpoint files are regular files of this directory; see `files.own_files`.

    Raises:
        CheckpointError: a file is a symbolic link to somewhere else, a FIFO or a device; it is not opened.
    """
    try:
        own_files.require(directory, SAFE_FILES)
    except UnreadableError as error:
        raise CheckpointError(f"{error}") from error


def weight_files(directory: Path, stem: Literal["model", "adapter_model"] = "model") -> list[Path]:
    """Return a directory's safetensors files, sorted by name, after checking that each is complete.

    Raises:
        CheckpointError: a file is missing, truncated or pickled.
    """
    return read_weights(directory, stem)[0]


def require_model(directory: Path) -> None:
    """Reject the directory of an adapter, which is registered with its base model."""
    if (directory / "adapter_config.json").is_file() and not (directory / "config.json").is_file():
        raise CheckpointError(
            f"{directory} contains adapter_config.json and no config.json, so it is an adapter; expected a model, with "
            "this adapter given by --adapter or --adapter-hub"
        )


def read_weights(directory: Path, stem: str) -> tuple[list[Path], list[Header]]:
    """Return a directory's safetensors files and their headers; see `weight_files`."""
    for pattern in PICKLED_WEIGHTS:
        if pickled := sorted(directory.glob(pattern)):
            raise CheckpointError(
                f"{pickled[0]} contains pickled weights, which can run code when loaded; expected safetensors only; "
                "convert the file, or delete it if the same weights are also stored as safetensors",
                final=True,
            )
    index, names = directory / f"{stem}.safetensors.index.json", weight_names(directory, stem)
    files, headers = [directory / name for name in names], []
    for file in files:
        if not file.is_file() and index.is_file():
            raise CheckpointError(
                f"{index} names {file.name}, which does not exist; "
                "the checkpoint is still being written or was only partly copied"
            )
        if not file.is_file():
            raise CheckpointError(f"{file} does not exist; expected weights as safetensors")
        headers.append(_header(file))
    return files, headers


def weight_names(directory: Path, stem: str) -> list[str]:
    """Return the names of the safetensors files that hold a directory's weights, sorted; they need not be there yet.

    Raises:
        CheckpointError: the index of the files is damaged or names something else.
    """
    index = directory / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return [f"{stem}.safetensors"]
    shards = json_object(index, LARGEST_INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise CheckpointError(f"{index}: weight_map: found {shown(shards)}; expected tensor → shard file")
    for tensor, name in shards.items():
        if not isinstance(name, str) or not _is_shard(name):
            raise CheckpointError(
                f"{index}: weight_map: {named(tensor)}: found {shown(name)}; "
                "expected the name of a safetensors file in the same directory"
            )
    return sorted(set(shards.values()))


def _require_sizes(config: Path, sizes: dict[str, int], headers: list[Header], packed: int = 1) -> None:
    """Check that config.json states no sizes larger than the weights.

    Transformers allocates the model before it opens the weights, so wrong sizes could exhaust memory.

    Args:
        packed: how many numbers a quantised weight may store in one.
    """
    largest = packed * max(header.largest for header in headers)
    most = {
        "num_hidden_layers": (sum(header.tensors for header in headers), "the number of tensors"),
        "hidden_size": (largest, "the largest dimension of any tensor"),
        "vocab_size": (largest, "the largest dimension of any tensor"),
    }
    for field, (bound, what) in most.items():
        if sizes[field] > bound:
            raise CheckpointError(f"{config}: {field}: found {sizes[field]}; expected at most {bound}, {what}")


def _is_shard(name: str) -> bool:
    """Return whether a name is a plain safetensors file name; paths are rejected because they could point anywhere."""
    plain = "/" not in name and "\\" not in name and name.isprintable() and len(name.encode()) <= 255
    return plain and name.endswith(".safetensors")


def _header(file: Path) -> Header:
    try:
        return read_header(file)
    except UnreadableError as error:
        raise CheckpointError(
            f"{file} is not a complete safetensors file: {error.problem}; it is still being written or is truncated"
        ) from error


def chat_template(directory: Path, otherwise: Path | None = None) -> str:
    """Return the tokenizer's chat template, from chat_template.jinja or tokenizer_config.json.

    Args:
        otherwise: directory whose template is used if the first holds none.

    Raises:
        CheckpointError: there is no chat template, so a persona's system prompt cannot be rendered.
    """
    template = stored_template(directory)
    if template is None and otherwise is not None:
        template = stored_template(otherwise)
    if template is None:
        raise CheckpointError(
            f"{directory}: no chat template in chat_template.jinja or tokenizer_config.json; "
            "expected one, since personas are system prompts; is this a base model without instruction tuning?"
        )
    return template


def stored_template(directory: Path) -> str | None:
    """Return the chat template that a directory holds; None if it holds none.

    Raises:
        CheckpointError: it cannot be read.
    """
    file = directory / "chat_template.jinja"
    try:
        if file.is_file() and (text := read_text(file, LARGEST_TEMPLATE)).strip():
            return text
    except UnreadableError as error:
        raise CheckpointError(
            f"{file} cannot be read as text: {error.problem}; it is still being written or is damaged"
        ) from error
    config = directory / "tokenizer_config.json"
    template = json_object(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):  # of several named templates the tokenizer uses the one named "default"
        named = [entry for entry in template if isinstance(entry, dict)]
        template = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    if template and not isinstance(template, str):
        raise CheckpointError(f"{config}: chat_template: found {shown(template)}; expected text")
    if not template:
        return None
    if len(template) > LARGEST_TEMPLATE:
        raise CheckpointError(f"{config}: chat_template: found more than {LARGEST_TEMPLATE} characters; expected fewer")
    return str(template)


def has_vocabulary(directory: Path) -> bool:
    """Return whether a directory holds a tokenizer."""
    return any((directory / name).is_file() for name in VOCABULARY_FILES)


def tokenizer_directory(directory: Path, otherwise: Path | None = None) -> Path:
    """Return the directory whose tokenizer a model is measured with: its own, or the other if it has none."""
    return otherwise if otherwise is not None and not has_vocabulary(directory) else directory


def tokenizer_files(directory: Path) -> list[Path]:
    """Return the tokenizer's files.

    Raises:
        CheckpointError: there is no vocabulary, or a file is too large or names others.
    """
    present = [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]
    if not {file.name for file in present} & set(VOCABULARY_FILES):
        raise CheckpointError(f"{directory}: no tokenizer found; expected tokenizer.json")
    for file in present:
        if (size := file.stat().st_size) > LARGEST_TOKENIZER:
            raise CheckpointError(f"{file} is {size // MIB} MiB; expected at most {LARGEST_TOKENIZER // MIB} MiB")
    config = directory / "tokenizer_config.json"
    others = json_object(config).get("fast_tokenizer_files") if config in present else None
    if others and others != ["tokenizer.json"]:  # Transformers would load a file that no digest covers
        raise CheckpointError(f"{config}: fast_tokenizer_files: found {shown(others)}; expected only tokenizer.json")
    return present
