"""Which weights are measured, and their identity.

A checkpoint is a local directory or a hub repository at a commit, with or without a LoRA adapter. Its identity is taken
from bytes, never from a name: the same weights under another name are the same checkpoint, and other weights under the
same name are another one.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from persona_assets.checkpoints.files import SAFE_FILES, CheckpointError, adapter_files, model_files
from persona_assets.files.atomic import atomic_write
from persona_assets.files.digest import digest_of, digest_of_file
from persona_assets.files.reading import shown
from persona_assets.files.redaction import redact, redact_hub_logs

__all__ = ["Checkpoint", "CheckpointError", "DigestCache", "Identity", "check_complete", "identify", "stamp"]

# What a config says of the program that wrote it and not of the model.
VOLATILE_CONFIG = ("transformers_version", "_name_or_path")


class Checkpoint(BaseModel):
    """Where a checkpoint's files are: one entry of the registry.

    Attributes:
        path: a local Hugging Face directory; or
        hub, revision: a repository and a commit of it (40 hex digits; a branch moves and is refused).
        adapter: directory of a LoRA adapter that is measured on top; or
        imported: folder of a published run that was imported; it has no weights here.
        series, step: the training run that it belongs to and how far that was. They order checkpoints and are no part
            of the identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    adapter: Path | None = None
    imported: Path | None = None
    series: str | None = None
    step: Annotated[StrictInt, Field(ge=0, le=2**53)] | None = None

    def directory(self) -> Path:
        """The local directory with the base model's files; a hub repository is fetched once, safetensors only."""
        if self.imported is not None:
            raise CheckpointError(
                f"{self.name}: is an imported run, without weights to measure; look at it with `--study {self.name}`"
            )
        if self.path is not None:
            return self.path
        import httpx2  # what huggingface_hub speaks through: a connection that breaks while a file comes is its error
        from huggingface_hub import snapshot_download  # imported late: local checkpoints never need it
        from huggingface_hub.errors import HFValidationError

        assert self.hub is not None
        redact_hub_logs()
        try:
            return Path(snapshot_download(self.hub, revision=self.revision, allow_patterns=list(SAFE_FILES)))
        except (httpx2.HTTPError, HFValidationError, OSError) as error:
            what = redact(f"{self.name}: {self.hub} at {self.revision} cannot be fetched: {error}")
            raise CheckpointError(what) from None  # its cause's text holds the whole address


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
        with atomic_write(self.file) as partial:
            partial.write_text(json.dumps(self._read() | {key: [*stamp, digest]}, indent=1))
        return digest

    def _read(self) -> dict[str, list[Any]]:
        try:
            content = json.loads(self.file.read_text())
        except (
            FileNotFoundError,
            ValueError,
            RecursionError,
        ):  # a cache: whatever is wrong with it, the bytes are read again
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) == 3}


def identify(checkpoint: Checkpoint, cache: DigestCache, *, recheck: bool = False) -> Identity:
    """The identity of a complete, safe checkpoint.

    Raises:
        CheckpointError: incomplete, pickled weights, no chat template, no adapter where one is named.
    """
    model = model_files(checkpoint.name, checkpoint.directory())
    return Identity(
        weights=digest_of([cache.digest(shard, recheck=recheck) for shard in model.shards]),
        adapter=_adapter_digest(checkpoint.adapter, cache, recheck) if checkpoint.adapter else None,
        tokenizer=digest_of({file.name: digest_of_file(file) for file in model.tokenizer}),
        chat_template=digest_of(model.chat_template),
        config=_config_digest(model.configs),
        architecture=_architecture(checkpoint.name, model.configs[0]),
        **model.shape,
        weights_bytes=sum(shard.stat().st_size for shard in model.shards),
    )


def _architecture(name: str, config: dict[str, Any]) -> str:
    found = config.get("architectures") or ["unknown"]
    if not isinstance(found, list) or not isinstance(found[0], str):
        raise CheckpointError(f"{name}: config.json: architectures: found {shown(found)}; expected a list of names")
    return found[0]


def check_complete(checkpoint: Checkpoint) -> None:
    """Everything that `identify` asks of a local checkpoint, without reading its weights: headers and small files only.

    Of a hub repository only the adapter is checked, for its own files would have to be fetched first.

    Raises:
        CheckpointError: the same that `identify` raises.
    """
    if checkpoint.hub is None:
        model_files(checkpoint.name, checkpoint.directory())
    if checkpoint.adapter is not None:
        adapter_files(checkpoint.adapter)


def stamp(checkpoint: Checkpoint) -> str:
    """A digest (64 hex digits) that moves whenever a file that `identify` may read moves: its name, size or time.

    Two equal stamps some time apart say that nobody is writing there. Folders below, optimizer state and other things
    that a trainer leaves do not count. A hub repository at a commit cannot move: its stamp is that of the two names.

    Raises:
        CheckpointError: a folder that is not there, or has none of these files.
    """
    if checkpoint.hub is not None:
        base: list[Any] = [checkpoint.hub, checkpoint.revision]
    else:
        base = _moments(checkpoint.name, checkpoint.directory())
    return digest_of([base, _moments(checkpoint.name, checkpoint.adapter) if checkpoint.adapter else None])


def _moments(name: str, directory: Path) -> list[Any]:
    try:
        files = sorted({file for pattern in SAFE_FILES for file in directory.glob(pattern) if file.is_file()})
        found = [(file.name, status.st_size, status.st_mtime_ns) for file in files if (status := file.stat())]
    except OSError as error:  # a file that went away between the two lines, or a folder that is not for us
        raise CheckpointError(f"{name}: {directory} cannot be looked through: {error}") from error
    if not directory.is_dir():
        raise CheckpointError(f"{name}: {directory} is not there; expected a Hugging Face model directory")
    if not found:
        raise CheckpointError(f"{name}: {directory} holds no file of a checkpoint yet; expected safetensors and JSON")
    return found


def _adapter_digest(directory: Path, cache: DigestCache, recheck: bool) -> str:
    weights, config = adapter_files(directory)
    return digest_of([*(cache.digest(file, recheck=recheck) for file in weights), config])


def _config_digest(configs: tuple[dict[str, Any], ...]) -> str:
    return digest_of([{key: value for key, value in each.items() if key not in VOLATILE_CONFIG} for each in configs])
