"""Checks that a checkpoint's files are complete, intact and safe to load.

Only the headers of weight files are read.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from persona_assets.files import own_files
from persona_assets.files.reading import (
    LARGEST_JSON,
    MIB,
    UnreadableError,
    named,
    read_json,
    read_text,
    shown,
)
from persona_assets.files.safetensors_files import Header, read_header

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
LARGEST_SIZE = 10**9  # upper limit of every model dimension


class CheckpointError(ValueError):
    """A checkpoint cannot be measured; the message names the file and the reason."""


class ModelFiles(NamedTuple):
    """Files of a complete model directory; `shape` has the `blocks`, `hidden` and `vocabulary` of `Identity`."""

    configs: tuple[dict[str, Any], dict[str, Any]]
    shape: dict[str, int]
    shards: list[Path]
    chat_template: str
    tokenizer: list[Path]


def model_files(name: str, directory: Path) -> ModelFiles:
    """Return the files of a model directory, after checking that it is complete and safe to load.

    Args:
        name: the checkpoint's name, for error messages.

    Raises:
        CheckpointError: a file is missing, truncated, damaged or pickled, or config.json states sizes that do not fit
            the weights.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{name}: {directory} does not exist; expected a Hugging Face model directory")
    require_own_files(directory)
    config = json_object(directory / "config.json")
    generation = directory / "generation_config.json"  # names the end-of-turn tokens
    sizes = {"blocks": "num_hidden_layers", "hidden": "hidden_size", "vocabulary": "vocab_size"}
    text_config = config.get("text_config") or config
    shape = {size: _number(directory, text_config, field) for size, field in sizes.items()}
    shards, headers = _weights(directory, "model")
    _require_sizes(directory / "config.json", {field: shape[size] for size, field in sizes.items()}, headers)
    return ModelFiles(
        configs=(config, json_object(generation) if generation.is_file() else {}),
        shape=shape,
        shards=shards,
        chat_template=chat_template(directory),
        tokenizer=_tokenizer_files(directory),
    )


def adapter_files(directory: Path) -> tuple[list[Path], dict[str, Any]]:
    """Return the weight files of a LoRA adapter and the content of its adapter_config.json, after checking both.

    Raises:
        CheckpointError: a file is missing, truncated, damaged or pickled, or the adapter is not a LoRA.
    """
    require_own_files(directory)
    files, headers = _weights(directory, "adapter_model")
    config = json_object(directory / "adapter_config.json")
    _require_lora(directory / "adapter_config.json", config, max(header.largest for header in headers))
    return files, config


def _require_lora(file: Path, config: dict[str, Any], largest: int) -> None:
    """Reject adapters that are unsafe to load.

    Other PEFT types load a tokenizer named in the file, and PEFT allocates memory for the stated rank before it reads
    the weights.
    """
    if config.get("peft_type") != "LORA":
        raise CheckpointError(f"{file}: peft_type: found {shown(config.get('peft_type'))}; expected 'LORA'")
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
    return _weights(directory, stem)[0]


def _weights(directory: Path, stem: str) -> tuple[list[Path], list[Header]]:
    for pattern in PICKLED_WEIGHTS:
        if pickled := sorted(directory.glob(pattern)):
            raise CheckpointError(
                f"{pickled[0]} contains pickled weights, which can run code when loaded; expected safetensors only; "
                "convert the file, or delete it if the same weights are also stored as safetensors"
            )
    index = directory / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = json_object(index, LARGEST_INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{index}: weight_map: found {shown(shards)}; expected tensor → shard file")
        for tensor, name in shards.items():
            if not isinstance(name, str) or not _is_shard(name):
                raise CheckpointError(
                    f"{index}: weight_map: {named(tensor)}: found {shown(name)}; "
                    "expected the name of a safetensors file in the same directory"
                )
        names = sorted(set(shards.values()))
    else:
        names = [f"{stem}.safetensors"]
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


def _require_sizes(config: Path, sizes: dict[str, int], headers: list[Header]) -> None:
    """Check that config.json states no sizes larger than the weights.

    Transformers allocates the model before it opens the weights, so wrong sizes could exhaust memory.
    """
    most = {
        "num_hidden_layers": (sum(header.tensors for header in headers), "the number of tensors"),
        "hidden_size": (largest := max(header.largest for header in headers), "the largest dimension of any tensor"),
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


def chat_template(directory: Path) -> str:
    """Return the tokenizer's chat template, from chat_template.jinja or tokenizer_config.json.

    Raises:
        CheckpointError: there is no chat template, so a persona's system prompt cannot be rendered.
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
        raise CheckpointError(
            f"{directory}: no chat template in chat_template.jinja or tokenizer_config.json; "
            "expected one, since personas are system prompts; is this a base model without instruction tuning?"
        )
    if len(template) > LARGEST_TEMPLATE:
        raise CheckpointError(f"{config}: chat_template: found more than {LARGEST_TEMPLATE} characters; expected fewer")
    return template


def _tokenizer_files(directory: Path) -> list[Path]:
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


def _number(directory: Path, config: dict[str, Any], field: str) -> int:
    value = config.get(field) if isinstance(config, dict) else config
    if type(value) is not int or not 0 < value <= LARGEST_SIZE:
        raise CheckpointError(
            f"{directory / 'config.json'}: {field}: found {shown(value)}; "
            f"expected a whole number from 1 to {LARGEST_SIZE}"
        )
    return value


def json_object(file: Path, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Return the content of a JSON file of a checkpoint; infinities, which some configs contain, become text.

    Raises:
        CheckpointError: the file is missing, too large, truncated or damaged, or is not a JSON object.
    """
    try:
        content = read_json(file, largest, infinities=True)
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointError(f"{file} does not exist; the checkpoint is incomplete") from None
        raise CheckpointError(
            f"{file} cannot be read as JSON: {error.problem}; it is still being written or is damaged"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: found {type(content).__name__}; expected a JSON object")
    return content
