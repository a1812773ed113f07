"""A checkpoint to measure, and its identity.

A checkpoint is a local directory or a hub repository at a commit, with or without a LoRA adapter. Its identity is
computed from file contents, never from names: renamed weights are the same checkpoint, and different weights under the
same name are a different one.
"""

import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from persona_assets.checkpoints.adapters import AdapterFiles, adapter_files, require_fit
from persona_assets.checkpoints.architecture import architecture_of
from persona_assets.checkpoints.download import download, download_adapter, download_texts
from persona_assets.checkpoints.errors import CheckpointError
from persona_assets.checkpoints.files import SAFE_FILES, ModelFiles, model_files
from persona_assets.checkpoints.linear_layers import unusual_layers
from persona_assets.checkpoints.sharded_state import sharded_state
from persona_assets.checkpoints.templates.facts import template_facts
from persona_assets.files.digest import digest_of, digest_of_file
from persona_assets.files.reading import shown
from persona_assets.store.json_cache import JsonCache

__all__ = ["Checkpoint", "CheckpointError", "DigestCache", "Identity", "check_complete", "identify", "stamp"]

# Config fields that describe the program that saved the model rather than the model itself.
VOLATILE_CONFIG = ("transformers_version", "_name_or_path")


class Checkpoint(BaseModel):
    """Location of a checkpoint's files: one registry entry.

    Exactly one of `path`, `hub` and `imported` is set.

    Attributes:
        path: a local Hugging Face directory.
        hub, revision: a hub repository and a commit (40 hex digits; branches are rejected because they move).
        tokenizer: directory of the tokenizer and chat template that are used if the model was saved without its own.
        imported: folder of an imported published run, which has no weights.
        adapter: directory of a LoRA adapter to apply to the base model.
        adapter_hub, adapter_revision, adapter_subfolder: a hub repository, a commit and a folder with a LoRA adapter,
            instead of a local one. The folder is the repository itself by default.
        series, step: the training run that saved the checkpoint, and its training step. They order checkpoints and are
            not part of the identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    adapter: Path | None = None
    adapter_hub: str | None = None
    adapter_revision: str | None = None
    adapter_subfolder: str | None = None
    tokenizer: Path | None = None
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
        assert self.hub is not None
        assert self.revision is not None
        return download(self.hub, self.revision, self.name)

    @property
    def has_adapter(self) -> bool:
        """Return whether an adapter is applied to the base model."""
        return self.adapter is not None or self.adapter_hub is not None

    def adapter_directory(self) -> Path | None:
        """Return the local directory of the adapter, downloading it from the hub on first use; None without an adapter.

        Raises:
            CheckpointError: the download failed.
        """
        if self.adapter_hub is None:
            return self.adapter
        return download_adapter(self.adapter_hub, str(self.adapter_revision), self.adapter_subfolder, self.name)

    def gone(self) -> Path | None:
        """Return the first local directory of this checkpoint that does not exist; None if all are there."""
        places = (self.path, self.adapter, self.tokenizer, self.imported)
        return next((place for place in places if place is not None and not place.is_dir()), None)

    def texts(self) -> Path:
        """Return a directory with the base model's configuration, tokenizer and template; downloads no weights.

        Raises:
            CheckpointError: as `directory`.
        """
        if self.hub is None:
            return self.directory()
        return download_texts(self.hub, str(self.revision), self.name)


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
    # Method of quantised weights, which are measured dequantised; None for plain ones.
    quantisation: str | None = None
    # What the chat template does other than most: where personas go without a system role, the format of thoughts,
    # and the token that ends a turn although no configuration says so. Derived from the template and the tokenizer.
    system_prompt: str | None = None
    thoughts: str | None = None
    turn_end: str | None = None
    # Linear layers of the blocks, if some that the shipped recipes train are not among them. Derived from the weights.
    linear_layers: str | None = None

    @property
    def digest(self) -> str:
        """Return one digest over all fields but those that say how a model is run, which follow from the others."""
        derived = ("attention", "scoring", "thoughts", "turn_end", "linear_layers")
        return digest_of({name: value for name, value in self.record().items() if name not in derived})

    def record(self) -> dict[str, Any]:
        """Return the fields as they are stored; those added after 0.1.0 only if they are set."""
        return {name: value for name, value in self.model_dump().items() if value is not None or name == "adapter"}


class DigestCache(JsonCache):
    """Cache of the SHA-256 digests of large files, keyed by path, size and modification time."""

    def digest(self, path: Path, *, recheck: bool = False) -> str:
        """Return the digest of a file's bytes; `recheck` bypasses the cache."""
        status = path.stat()
        key, stamp = str(path.resolve()), [status.st_size, status.st_mtime_ns]
        match self.read().get(key):
            case [size, modified, str(known)] if not recheck and [size, modified] == stamp:
                return known
        digest = digest_of_file(path)
        self.write(self.read() | {key: [*stamp, digest]})
        return digest


def identify(checkpoint: Checkpoint, cache: DigestCache, *, recheck: bool = False) -> Identity:
    """Return the identity of a checkpoint, after checking that it is complete and safe to load.

    Raises:
        CheckpointError: the checkpoint is incomplete, has pickled weights or no chat template, or its adapter is
            missing.
    """
    model, adapter = _files(checkpoint)
    assert model is not None
    needs = architecture_of(model.configs[0])
    tokenizer = (adapter.tokenizer if adapter else None) or model.tokenizer
    template = (adapter.chat_template if adapter else None) or model.chat_template
    facts = template_facts(template, tokenizer, model.configs)
    return Identity(
        weights=digest_of([cache.digest(shard, recheck=recheck) for shard in model.shards]),
        adapter=_adapter_digest(adapter, cache, recheck) if adapter else None,
        tokenizer=digest_of({file.name: digest_of_file(file) for file in tokenizer}),
        chat_template=digest_of(template),
        config=_config_digest(model.configs),
        architecture=_architecture(checkpoint.name, model.configs[0]),
        **model.shape,
        weights_bytes=sum(shard.stat().st_size for shard in model.shards),
        attention=needs.attention,
        scoring=needs.scoring,
        quantisation=model.quantisation,
        system_prompt=facts.system_prompt,
        thoughts=facts.thoughts,
        turn_end=facts.turn_end,
        linear_layers=unusual_layers(model.tensors, model.configs[0]),
    )


def _files(checkpoint: Checkpoint, download: bool = True) -> tuple[ModelFiles | None, AdapterFiles | None]:
    """Return the files of base model and adapter, checked alone and against one another.

    Args:
        download: whether to download what is on the hub; otherwise it is left out and not checked.
    """
    local = download or checkpoint.hub is None
    model = model_files(checkpoint.name, checkpoint.directory(), checkpoint.tokenizer) if local else None
    directory = checkpoint.adapter_directory() if download else checkpoint.adapter
    adapter = adapter_files(directory) if directory else None
    if model and adapter and model.quantisation is None:
        require_fit(adapter, model.tensors)
    return model, adapter


def _architecture(name: str, config: dict[str, Any]) -> str:
    found = config.get("architectures") or ["unknown"]
    if not isinstance(found, list) or not isinstance(found[0], str):
        raise CheckpointError(f"{name}: config.json: architectures: found {shown(found)}; expected a list of names")
    return found[0]


def check_complete(checkpoint: Checkpoint) -> None:
    """Run the checks of `identify` on a local checkpoint, reading only safetensors headers and small files.

    What is in a hub repository is not checked, because it would have to be downloaded first.

    Raises:
        CheckpointError: the same errors as `identify`.
    """
    _files(checkpoint, download=False)


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
    adapter: Any = _file_stats(checkpoint.name, checkpoint.adapter) if checkpoint.adapter else None
    if checkpoint.adapter_hub is not None:
        adapter = [checkpoint.adapter_hub, checkpoint.adapter_revision, checkpoint.adapter_subfolder]
    tokenizer = [_file_stats(checkpoint.name, checkpoint.tokenizer)] if checkpoint.tokenizer else []
    return digest_of([base, adapter, *tokenizer])


def _file_stats(name: str, directory: Path) -> list[Any]:
    try:
        if not directory.is_dir():
            raise CheckpointError(f"{name}: {directory} does not exist; expected a Hugging Face model directory")
        with os.scandir(directory) as listed:  # one pass, since a sensor does this for many folders
            files = sorted((file.name, file) for file in listed if _is_safe(file.name) and file.is_file())
        found = [(own, status.st_size, status.st_mtime_ns) for own, file in files if (status := file.stat())]
    except OSError as error:  # a file was deleted in between, or permission was denied
        raise CheckpointError(f"{name}: {directory} cannot be read: {error}") from error
    if not found and (parts := sharded_state(directory)) is not None:
        raise CheckpointError(parts, final=True)
    if not found:
        raise CheckpointError(f"{name}: {directory} contains no checkpoint files yet; expected safetensors and JSON")
    return found


def _is_safe(file: str) -> bool:
    return any(fnmatchcase(file, pattern) for pattern in SAFE_FILES)


def _adapter_digest(adapter: AdapterFiles, cache: DigestCache, recheck: bool) -> str:
    return digest_of([*(cache.digest(file, recheck=recheck) for file in adapter.weights), adapter.config])


def _config_digest(configs: tuple[dict[str, Any], ...]) -> str:
    return digest_of([{key: value for key, value in each.items() if key not in VOLATILE_CONFIG} for each in configs])
