"""The files that make a checkpoint: which they are, and whether they are all there, whole and safe.

Weights are opened for their headers only, never read.
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
LARGEST_INDEX, LARGEST_TEMPLATE, LARGEST_TOKENIZER = 32 * MIB, MIB, 128 * MIB
LARGEST_SIZE = 10**9  # of any of a model's dimensions


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
        CheckpointError: a file that is missing, cut, damaged or pickled, or sizes that the weights have not.
    """
    if not directory.is_dir():
        raise CheckpointError(f"{name}: {directory} is not there; expected a Hugging Face model directory")
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
    """The weights of a complete, safe LoRA adapter, and the content of its adapter_config.json.

    Raises:
        CheckpointError: a file that is missing, cut, damaged or pickled.
    """
    require_own_files(directory)
    files, headers = _weights(directory, "adapter_model")
    config = json_object(directory / "adapter_config.json")
    _require_lora(directory / "adapter_config.json", config, max(header.largest for header in headers))
    return files, config


def _require_lora(file: Path, config: dict[str, Any], largest: int) -> None:
    """PEFT's other kinds load tokenizers that the file names; a rank that no weights have would fill the memory."""
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
                "dimension of its weights"
            )


def require_own_files(directory: Path) -> None:
    """Whether what looks like a checkpoint's file is one, wherever it lies; `own_files` has the rule.

    Raises:
        CheckpointError: a link that leads elsewhere, a FIFO or a device; it is not opened.
    """
    try:
        own_files.require(directory, SAFE_FILES)
    except UnreadableError as error:
        raise CheckpointError(f"{error}") from error


def weight_files(directory: Path, stem: Literal["model", "adapter_model"] = "model") -> list[Path]:
    """A directory's safetensors files in the order of their names, each of them whole.

    Raises:
        CheckpointError: a file that is missing, cut, or pickled.
    """
    return _weights(directory, stem)[0]


def _weights(directory: Path, stem: str) -> tuple[list[Path], list[Header]]:
    for pattern in PICKLED_WEIGHTS:
        if pickled := sorted(directory.glob(pattern)):
            raise CheckpointError(
                f"{pickled[0]} holds pickled weights, which can run code when they are read; "
                "expected safetensors only: convert it, or remove it if the same weights are there as safetensors"
            )
    index = directory / f"{stem}.safetensors.index.json"
    if index.is_file():
        shards = json_object(index, LARGEST_INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise CheckpointError(f"{index}: weight_map: found {shown(shards)}; expected the names of the shards")
        for tensor, name in shards.items():
            if not isinstance(name, str) or not _is_shard(name):
                raise CheckpointError(
                    f"{index}: weight_map: {named(tensor)}: found {shown(name)}; "
                    "expected the name of a safetensors file beside it"
                )
        names = sorted(set(shards.values()))
    else:
        names = [f"{stem}.safetensors"]
    files, headers = [directory / name for name in names], []
    for file in files:
        if not file.is_file() and index.is_file():
            raise CheckpointError(
                f"{index} names {file.name}, which is not there; "
                "the checkpoint is still being written or was copied in part"
            )
        if not file.is_file():
            raise CheckpointError(f"{file} is not there; expected weights as safetensors")
        headers.append(_whole(file))
    return files, headers


def _require_sizes(config: Path, sizes: dict[str, int], headers: list[Header]) -> None:
    """A model is built before its weights are looked for: one that they cannot fill would first fill the memory."""
    most = {
        "num_hidden_layers": (sum(header.tensors for header in headers), "as many as there are tensors"),
        "hidden_size": (largest := max(header.largest for header in headers), "the largest dimension of any tensor"),
        "vocab_size": (largest, "the largest dimension of any tensor"),
    }
    for field, (bound, what) in most.items():
        if sizes[field] > bound:
            raise CheckpointError(f"{config}: {field}: found {sizes[field]}; expected at most {bound}, {what}")


def _is_shard(name: str) -> bool:
    """A plain name: a path could lead anywhere."""
    plain = "/" not in name and "\\" not in name and name.isprintable() and len(name.encode()) <= 255
    return plain and name.endswith(".safetensors")


def _whole(file: Path) -> Header:
    try:
        return read_header(file)
    except UnreadableError as error:
        raise CheckpointError(
            f"{file} is not a whole safetensors file: {error.problem}; it is still being written or was cut"
        ) from error


def chat_template(directory: Path) -> str:
    """The chat template that the tokenizer carries, from its own file or from tokenizer_config.json.

    Raises:
        CheckpointError: there is none, so a persona's system prompt has no place.
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
    if isinstance(template, list):  # several named templates: the tokenizer takes this one
        named = [entry for entry in template if isinstance(entry, dict)]
        template = next((entry.get("template") for entry in named if entry.get("name") == "default"), None)
    if template and not isinstance(template, str):
        raise CheckpointError(f"{config}: chat_template: found {shown(template)}; expected a text")
    if not template:
        raise CheckpointError(
            f"{directory}: no chat template in chat_template.jinja or tokenizer_config.json; "
            "expected one, since a persona is a system prompt; is this a base model?"
        )
    if len(template) > LARGEST_TEMPLATE:
        raise CheckpointError(f"{config}: chat_template: is longer than {LARGEST_TEMPLATE} characters; expected less")
    return template


def _tokenizer_files(directory: Path) -> list[Path]:
    present = [directory / name for name in TOKENIZER_FILES if (directory / name).is_file()]
    if not {file.name for file in present} & set(VOCABULARY_FILES):
        raise CheckpointError(f"{directory}: no tokenizer; expected tokenizer.json")
    for file in present:
        if (size := file.stat().st_size) > LARGEST_TOKENIZER:
            raise CheckpointError(f"{file} is {size // MIB} MiB; expected at most {LARGEST_TOKENIZER // MIB} MiB")
    config = directory / "tokenizer_config.json"
    others = json_object(config).get("fast_tokenizer_files") if config in present else None
    if others and others != ["tokenizer.json"]:  # Transformers would read another file, which no digest knows
        raise CheckpointError(f"{config}: fast_tokenizer_files: found {shown(others)}; expected tokenizer.json alone")
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
    """A checkpoint's JSON file, an object; infinities, which some configurations have, are text.

    Raises:
        CheckpointError: it is not there, too large, cut, damaged, or something else.
    """
    try:
        content = read_json(file, largest, infinities=True)
    except UnreadableError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise CheckpointError(f"{file} is not there; the checkpoint is incomplete") from None
        raise CheckpointError(
            f"{file} cannot be read as JSON: {error.problem}; it is still being written or is damaged"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: found {type(content).__name__}; expected a JSON object")
    return content
