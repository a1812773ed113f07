"""A checkpoint to measure, and its identity.

A checkpoint is a local directory or a hub repository at a commit, with or without a LoRA adapter. Its identity is
computed from file contents, never from names: renamed weights are the same checkpoint, and different weights under the
same name are a different one.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from persona_assets.checkpoints.architecture import architecture_of
from persona_assets.checkpoints.files import SAFE_FILES, CheckpointError, adapter_files, model_files
from persona_assets.files.atomic import atomic_write
from persona_assets.files.digest import digest_of, digest_of_file
from persona_assets.files.reading import shown
from persona_assets.files.redaction import redact, redact_hub_logs

__all__ = ["Checkpoint", "CheckpointError", "DigestCache", "Identity", "check_complete", "identify", "stamp"]

# Config fields that describe the program that saved the model rather than the model itself.
VOLATILE_CONFIG = ("transformers_version", "_name_or_path")


class Checkpoint(BaseModel):
    """Location of a checkpoint's files: one registry entry.

    Exactly one of `path`, `hub` and `imported` is set.

    Attributes:
        path: a local Hugging Face directory.
        hub, revision: a hub repository and a commit (40 hex digits; branches are rejected because they move).
        imported: folder of an imported published run, which has no weights.
        adapter: directory of a LoRA adapter to apply to the base model.
        series, step: the training run that saved the checkpoint, and its training step. They order checkpoints and are
            not part of the identity.
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
        """Return the local directory of the base model, downloading a hub repository on first use (safetensors only).

        Raises:
            CheckpointError: the checkpoint is an imported run, or the download failed.
        """
        if self.imported is not None:
            raise CheckpointError(
                f"{self.name}: is an imported run, which has no weights to measure; view it with `--study {self.name}`"
            )
        if self.path is not None:
            return self.path
        import httpx2  # the HTTP client of huggingface_hub, which raises its errors when a download breaks off
        from huggingface_hub import snapshot_download  # imported here because local checkpoints do not need it
        from huggingface_hub.errors import HFValidationError

        assert self.hub is not None
        redact_hub_logs()
        try:
            return Path(snapshot_download(self.hub, revision=self.revision, allow_patterns=list(SAFE_FILES)))
        except (httpx2.HTTPError, HFValidationError, OSError) as error:
            what = redact(f"{self.name}: {self.hub} at {self.revision} could not be downloaded: {error}")
            raise CheckpointError(what) from None  # the original error contains the unredacted URL


class Identity(BaseModel):
    """Content of a checkpoint: SHA-256 digests (64 hex digits) and the model's shape."""

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
    # How this architecture must be run; None for plain full attention. Derived from `config`.
    attention: str | None = None
    scoring: str | None = None

    @property
    def digest(self) -> str:
        """Return one digest over all fields but those that follow from `config`."""
        return digest_of({name: value for name, value in self.record().items() if name not in ("attention", "scoring")})

    def record(self) -> dict[str, Any]:
        """Return the fields as they are stored; those added after 0.1.0 only if they are set."""
        return {name: value for name, value in self.model_dump().items() if value is not None or name == "adapter"}


class DigestCache:
    """Cache of the SHA-256 digests of large files, keyed by path, size and modification time, in a JSON file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def digest(self, path: Path, *, recheck: bool = False) -> str:
        """Return the digest of a file's bytes; `recheck` bypasses the cache."""
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
        except (FileNotFoundError, ValueError, RecursionError):  # a missing or damaged cache is rebuilt
            return {}
        entries = content.items() if isinstance(content, dict) else ()
        return {path: entry for path, entry in entries if isinstance(entry, list) and len(entry) == 3}


def identify(checkpoint: Checkpoint, cache: DigestCache, *, recheck: bool = False) -> Identity:
    """Return the identity of a checkpoint, after checking that it is complete and safe to load.

    Raises:
        CheckpointError: the checkpoint is incomplete, has pickled weights or no chat template, or its adapter is
            missing.
    """
    model = model_files(checkpoint.name, checkpoint.directory())
    needs = architecture_of(model.configs[0])
    return Identity(
        weights=digest_of([cache.digest(shard, recheck=recheck) for shard in model.shards]),
        adapter=_adapter_digest(checkpoint.adapter, cache, recheck) if checkpoint.adapter else None,
        tokenizer=digest_of({file.name: digest_of_file(file) for file in model.tokenizer}),
        chat_template=digest_of(model.chat_template),
        config=_config_digest(model.configs),
        architecture=_architecture(checkpoint.name, model.configs[0]),
        **model.shape,
        weights_bytes=sum(shard.stat().st_size for shard in model.shards),
        attention=needs.attention,
        scoring=needs.scoring,
    )


def _architecture(name: str, config: dict[str, Any]) -> str:
    found = config.get("architectures") or ["unknown"]
    if not isinstance(found, list) or not isinstance(found[0], str):
        raise CheckpointError(f"{name}: config.json: architectures: found {shown(found)}; expected a list of names")
    return found[0]


def check_complete(checkpoint: Checkpoint) -> None:
    """Run the checks of `identify` on a local checkpoint, reading only safetensors headers and small files.

    For a hub repository only the adapter is checked, because the other files would have to be downloaded first.

    Raises:
        CheckpointError: the same errors as `identify`.
    """
    if checkpoint.hub is None:
        model_files(checkpoint.name, checkpoint.directory())
    if checkpoint.adapter is not None:
        adapter_files(checkpoint.adapter)


def stamp(checkpoint: Checkpoint) -> str:
    """Return a digest (64 hex digits) of the names, sizes and modification times of the files that `identify` reads.

    Two equal stamps taken some time apart mean that the files are not being written. Subfolders, optimizer state and
    other trainer files are ignored. For a hub repository, whose commits are immutable, the repository name and the
    commit are hashed instead.

    Raises:
        CheckpointError: the folder does not exist or contains none of these files.
    """
    if checkpoint.hub is not None:
        base: list[Any] = [checkpoint.hub, checkpoint.revision]
    else:
        base = _file_stats(checkpoint.name, checkpoint.directory())
    return digest_of([base, _file_stats(checkpoint.name, checkpoint.adapter) if checkpoint.adapter else None])


def _file_stats(name: str, directory: Path) -> list[Any]:
    try:
        files = sorted({file for pattern in SAFE_FILES for file in directory.glob(pattern) if file.is_file()})
        found = [(file.name, status.st_size, status.st_mtime_ns) for file in files if (status := file.stat())]
    except OSError as error:  # a file was deleted in between, or permission was denied
        raise CheckpointError(f"{name}: {directory} cannot be read: {error}") from error
    if not directory.is_dir():
        raise CheckpointError(f"{name}: {directory} does not exist; expected a Hugging Face model directory")
    if not found:
        raise CheckpointError(f"{name}: {directory} contains no checkpoint files yet; expected safetensors and JSON")
    return found


def _adapter_digest(directory: Path, cache: DigestCache, recheck: bool) -> str:
    weights, config = adapter_files(directory)
    return digest_of([*(cache.digest(file, recheck=recheck) for file in weights), config])


def _config_digest(configs: tuple[dict[str, Any], ...]) -> str:
    return digest_of([{key: value for key, value in each.items() if key not in VOLATILE_CONFIG} for each in configs])
