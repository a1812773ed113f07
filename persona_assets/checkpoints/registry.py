"""Registry of checkpoints: a YAML file that users edit.

qwen2.5-7b-instruct:
  hub: Qwen/Qwen2.5-7B-Instruct
  revision: a09a35458c702b33eeacc393d103063234e8bc28
villain-step-500:
  path: /data/run-7/base          # relative paths start at this file's folder
  adapter: /data/run-7/checkpoint-500
  series: run-7                   # the training run, and the training step
  step: 500
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError
from persona_assets.checkpoints.named_entries import NamedEntries
from persona_assets.files.atomic import atomic_write
from persona_assets.files.reading import UnreadableError, read_json, shown
from persona_assets.study import checked_name

COMMIT = re.compile(r"[0-9a-f]{40}")
FOLDER = re.compile(r"(?!\.{1,2}$)[\w.\- ]+")


class Registry(NamedEntries[Checkpoint]):
    """Registry of checkpoints; entries are validated when read, weights when the checkpoint is identified."""

    singular, plural = "checkpoint", "checkpoints"
    header = "# Checkpoints to measure: a name, then path, or hub and revision; optionally adapter.\n"

    def add_all(self, new: Mapping[str, Mapping[str, str | int]]) -> None:
        """See `NamedEntries.add_all`; names that were removed before are watched for again."""
        super().add_all(new)
        if (removed := self.removed()).keys() & new.keys():
            self._remember({name: entry for name, entry in removed.items() if name not in new})

    def remove(self, name: str) -> None:
        """Remove a checkpoint, and remember it, so that a watch that finds it again does not register it."""
        entry = self._entries().get(name)
        super().remove(name)
        self._remember({**self.removed(), name: entry})

    def removed(self) -> dict[str, Any]:
        """Return the entries of removed checkpoints by name."""
        try:
            content = read_json(self._removed)
        except UnreadableError:  # nothing was removed yet, or the file is damaged
            return {}
        return content if isinstance(content, dict) else {}

    @property
    def _removed(self) -> Path:
        return self.file.with_name("removed_checkpoints.json")

    def _remember(self, removed: Mapping[str, Any]) -> None:
        with atomic_write(self._removed) as partial:
            partial.write_text(json.dumps(removed, indent=1, default=str), encoding="utf-8")

    def _parse(self, name: str, entry: Any) -> Checkpoint:
        place = f"{self.file}: {name}"
        checkpoint = self._validated(Checkpoint, name, entry)
        kinds = [checkpoint.path, checkpoint.hub, checkpoint.imported]
        if sum(kind is not None for kind in kinds) != 1 or (checkpoint.revision and not checkpoint.hub):
            raise CheckpointError(f"{place}: expected exactly one of path, hub with revision, and imported")
        if checkpoint.hub and not COMMIT.fullmatch(checkpoint.revision or ""):
            raise CheckpointError(
                f"{place}: revision: found {shown(checkpoint.revision)}; "
                "expected a commit (40 hex digits), because branches move"
            )
        self._require_adapter(place, checkpoint)
        try:
            checked_name(name if checkpoint.series is None else checkpoint.series)
        except ValueError as error:
            raise CheckpointError(f"{place}: series: {error}") from None
        places = {}
        for field in ("path", "adapter", "tokenizer", "imported"):
            try:
                places[field] = self._resolved(getattr(checkpoint, field))
            except ValueError as error:
                raise CheckpointError(f"{place}: {field}: {error}") from None
        return checkpoint.model_copy(update=places)

    def _require_adapter(self, place: str, checkpoint: Checkpoint) -> None:
        """Check the fields that locate an adapter."""
        hub, revision, folder = checkpoint.adapter_hub, checkpoint.adapter_revision, checkpoint.adapter_subfolder
        if hub is None and (revision is not None or folder is not None):
            field = "adapter_revision" if revision is not None else "adapter_subfolder"
            raise CheckpointError(f"{place}: {field}: expected adapter_hub with it, the repository of the adapter")
        if hub is not None and checkpoint.adapter is not None:
            raise CheckpointError(f"{place}: found both adapter and adapter_hub; expected one of them")
        if checkpoint.has_adapter and checkpoint.imported is not None:
            raise CheckpointError(f"{place}: found an adapter of an imported run; expected one of path and hub")
        if hub is not None and not COMMIT.fullmatch(revision or ""):
            raise CheckpointError(
                f"{place}: adapter_revision: found {shown(revision)}; "
                "expected a commit (40 hex digits), because branches move"
            )
        if folder is not None and not all(FOLDER.fullmatch(part) for part in folder.split("/")):
            raise CheckpointError(
                f"{place}: adapter_subfolder: found {shown(folder)}; expected a folder of the repository, such as a/b"
            )
