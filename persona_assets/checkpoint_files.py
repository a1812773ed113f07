"""The files that make a checkpoint: which they are, and whether they are all there, whole and safe.

Weights are opened for their headers only, never read.
"""

import os
import re
import stat
import struct
from pathlib import Path
from typing import Any, Literal, NamedTuple

from persona_assets.reading import (
    LARGEST_JSON,
    MIB,
    UnreadableError,
    named,
    parse_json,
    read_json,
    read_text,
    shortened,
    shown,
)

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
LARGEST_INDEX, LARGEST_HEADER, LARGEST_TEMPLATE, LARGEST_TOKENIZER = 32 * MIB, 8 * MIB, MIB, 128 * MIB
LARGEST_SIZE = 10**9  # of any of a model's dimensions
DIGEST_NAME = re.compile(r"[0-9a-f]{30,64}")
MORE_TEMPLATES = "additional_chat_templates"  # which Transformers reads too


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
    require_own_files(directory)
    config = json_object(directory / "config.json")
    generation = directory / "generation_config.json"  # names the end-of-turn tokens
    sizes = {"blocks": "num_hidden_layers", "hidden": "hidden_size", "vocabulary": "vocab_size"}
    text_config = config.get("text_config") or config
    return ModelFiles(
        configs=(config, json_object(generation) if generation.is_file() else {}),
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
    require_own_files(directory)
    return weight_files(directory, "adapter_model"), json_object(directory / "adapter_config.json")


def require_own_files(directory: Path) -> None:
    """Whether what looks like a checkpoint's file is one, wherever it lies.

    A link may lead within the directory, to a file of the same name (weights that are shared), or to one that is named
    by its digest, as the blobs of a hub's cache are. Any other could make a text of this machine part of a prompt.

    Raises:
        CheckpointError: a link that leads elsewhere, a FIFO or a device; it is not opened.
    """
    try:
        files = {file for pattern in SAFE_FILES for file in directory.glob(pattern)}
        files |= set((directory / MORE_TEMPLATES).glob("*"))
        for file in sorted(files):
            if not file.is_dir():
                _require_own(file, directory.resolve())
    except OSError as error:
        raise CheckpointError(f"{error.filename or directory} cannot be looked at: {error.strerror}") from error


def _require_own(file: Path, directory: Path) -> None:
    place, hops = file, 0
    while place.is_symlink():
        target = place.parent / place.readlink()
        target = target.parent.resolve() / target.name
        shared = target.name == place.name or DIGEST_NAME.fullmatch(target.name)
        if not (shared or target.is_relative_to(directory)) or (hops := hops + 1) > 40:
            raise CheckpointError(
                f"{file} is a link to {target}; expected one within its directory, to a file of the same name or to "
                "one named by its digest, as in a hub's cache; copy the file if it belongs there"
            )
        place = target
    if place.exists() and not stat.S_ISREG(place.stat().st_mode):  # what is not there is missed elsewhere
        raise CheckpointError(f"{file} is a FIFO or a device; expected a regular file; it was not read")


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


def _is_shard(name: str) -> bool:
    """A plain name: a path could lead anywhere."""
    plain = "/" not in name and "\\" not in name and name.isprintable() and len(name.encode()) <= 255
    return plain and name.endswith(".safetensors")


def _whole(file: Path) -> None:
    """safetensors compares the header's offsets with the file's size when it opens a file.

    The header is read before: as JSON, strictly, for safetensors takes the last of two tensors of one name.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with file.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < 8:
                raise UnreadableError(file, f"{size} bytes; expected eight that say how long the header is")
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 0 < length <= size - 8:
                raise UnreadableError(file, f"the header's length is {length}, of a file of {size} bytes")
            if length > LARGEST_HEADER:
                raise UnreadableError(file, f"a header of {length} bytes; expected at most {LARGEST_HEADER}")
            header = parse_json(stream.read(length).decode("utf-8"), file, LARGEST_HEADER)
        if not isinstance(header, dict):
            raise UnreadableError(file, f"the header is a {type(header).__name__}; expected an object")
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError, ValueError) as error:
        problem = error.problem if isinstance(error, UnreadableError) else error
        if isinstance(error, UnicodeDecodeError):
            problem = f"byte {error.start} of its header is not UTF-8"
        raise CheckpointError(
            f"{file} is not a whole safetensors file: {shortened(problem, 500)}; it is still being written or was cut"
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
