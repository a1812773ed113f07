"""Which weights are measured, and their identity.

A checkpoint is a local directory or a hub repository at a commit, with or without a LoRA adapter. Its identity is taken
from bytes, never from a name: the same weights under another name are the same checkpoint, and other weights under the
same name are another one.
"""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from persona_assets.digest import digest_of, digest_of_file
from persona_assets.files import written_whole

SAFE_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model")
PICKLED_WEIGHTS = ("pytorch_model*.bin", "adapter_model*.bin", "model*.bin", "model*.pt", "consolidated*.pt*", "*.ckpt")
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
# What a config says of the program that wrote it and not of the model.
VOLATILE_CONFIG = ("transformers_version", "_name_or_path")


class CheckpointError(ValueError):
    """A checkpoint that cannot be measured; the message names the file and says why."""


class Checkpoint(BaseModel):
    """Where a checkpoint's files are: one entry of the registry.

    Attributes:
        path: a local Hugging Face directory; or
        hub, revision: a repository and a commit of it (40 hex digits; a branch moves and is refused).
        adapter: directory of a LoRA adapter that is measured on top; or
        imported: folder of a published run that was imported; it has no weights here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    adapter: Path | None = None
    imported: Path | None = None

    def directory(self) -> Path:
        """The local directory with the base model's files; a hub repository is fetched once, safetensors only."""
        if self.imported is not None:
            raise CheckpointError(
                f"{self.name}: is an imported run, without weights to measure; look at it with `--study {self.name}`"
            )
        if self.path is not None:
            return self.path
        from huggingface_hub import snapshot_download  # imported late: local checkpoints never need it
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        assert self.hub is not None
        try:
            return Path(snapshot_download(self.hub, revision=self.revision, allow_patterns=list(SAFE_FILES)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            raise CheckpointError(f"{self.name}: {self.hub} at {self.revision} cannot be fetched: {error}") from error


class Identity(BaseModel):
    """What a checkpoint is made of: SHA-256 digests (64 hex digits) and the model's shape."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: str
    adapter: str | None
    tokenizer: str
    chat_template: str
    config: str
    architecture: str
    blocks: int
    hidden: int
    vocabulary: int
    weights_bytes: int

    @property
    def digest(self) -> str:
        """One digest of all of them."""
        return digest_of(self.model_dump())


class DigestCache:
    """SHA-256 of large files, remembered by path, size and modification time in a JSON file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def digest(self, path: Path, *, recheck: bool = False) -> str:
        """The digest of a file's bytes; `recheck` reads the bytes even where size and time have not moved."""
        status = path.stat()
        key, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns]
        if not recheck and (known := self._read().get(key)) and known[:2] == stamp:
            return str(known[2])
        digest = digest_of_file(path)
        with written_whole(self.file) as partial:
            partial.write_text(json.dumps(self._read() | {key: [*stamp, digest]}, indent=1))
        return digest

    def _read(self) -> dict[str, list[Any]]:
        try:
            content = json.loads(self.file.read_text())
        except (FileNotFoundError, ValueError):  # a cache: whatever is wrong with it, the bytes are read again
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) == 3}


def identify(checkpoint: Checkpoint, cache: DigestCache, *, recheck: bool = False) -> Identity:
    """The identity of a complete, safe checkpoint.

    Raises:
        CheckpointError: incomplete, pickled weights, no chat template, no adapter where one is named.
    """
    directory = checkpoint.directory()
    if not directory.is_dir():
        raise CheckpointError(f"{checkpoint.name}: {directory} is not there; expected a Hugging Face model directory")
    config = _json(directory / "config.json")
    text_config = config.get("text_config") or config
    shards = weight_files(directory)
    return Identity(
        weights=digest_of([cache.digest(shard, recheck=recheck) for shard in shards]),
        adapter=_adapter_digest(checkpoint.adapter, cache, recheck) if checkpoint.adapter else None,
        tokenizer=_tokenizer_digest(directory),
        chat_template=digest_of(chat_template(directory)),
        config=_config_digest(directory, config),
        architecture=(config.get("architectures") or ["unknown"])[0],
        blocks=_number(directory, text_config, "num_hidden_layers"),
        hidden=_number(directory, text_config, "hidden_size"),
        vocabulary=_number(directory, text_config, "vocab_size"),
        weights_bytes=sum(shard.stat().st_size for shard in shards),
    )


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
    if file.is_file() and (text := file.read_text(encoding="utf-8")).strip():
        return text
    config = directory / "tokenizer_config.json"
    template = _json(config).get("chat_template") if config.is_file() else None
    if isinstance(template, list):  # several named templates: the tokenizer takes this one
        template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
    if not template:
        raise CheckpointError(
            f"{directory}: no chat template in chat_template.jinja or tokenizer_config.json; "
            "expected one, since a persona is a system prompt; is this a base model?"
        )
    return str(template)


def _adapter_digest(directory: Path, cache: DigestCache, recheck: bool) -> str:
    weights = [cache.digest(file, recheck=recheck) for file in weight_files(directory, "adapter_model")]
    return digest_of([*weights, _json(directory / "adapter_config.json")])


def _tokenizer_digest(directory: Path) -> str:
    present = [name for name in TOKENIZER_FILES if (directory / name).is_file()]
    if not {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"} & set(present):
        raise CheckpointError(f"{directory}: no tokenizer; expected tokenizer.json")
    return digest_of({name: digest_of_file(directory / name) for name in present})


def _config_digest(directory: Path, config: dict[str, Any]) -> str:
    generation = directory / "generation_config.json"  # names the end-of-turn tokens
    configs = [config, _json(generation) if generation.is_file() else {}]
    return digest_of([{key: value for key, value in each.items() if key not in VOLATILE_CONFIG} for each in configs])


def _number(directory: Path, config: dict[str, Any], field: str) -> int:
    if not isinstance(value := config.get(field), int):
        raise CheckpointError(f"{directory / 'config.json'}: {field}: found {value!r}; expected a whole number")
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
