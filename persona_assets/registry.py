"""The registry of checkpoints: a YAML file that people read and edit.

qwen2.5-7b-instruct:
  hub: Qwen/Qwen2.5-7B-Instruct
  revision: a09a35458c702b33eeacc393d103063234e8bc28
villain-step-500:
  path: /data/run-7/base          # relative paths start at this file's folder
  adapter: /data/run-7/checkpoint-500
"""

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from persona_assets.checkpoint import Checkpoint, CheckpointError
from persona_assets.files import written_whole
from persona_assets.study import checked_name
from persona_assets.yaml_files import describe_errors, read_yaml

HEADER = "# Checkpoints that can be measured: a name, then path, or hub and revision; optionally adapter.\n"
COMMIT = re.compile(r"[0-9a-f]{40}")


class Registry:
    """Reads and extends the file; an entry is checked when it is read, its weights when it is identified."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def names(self) -> list[str]:
        """The names of all checkpoints, in the order of the file."""
        return list(self._entries())

    def get(self, name: str) -> Checkpoint:
        """The checkpoint of this name.

        Raises:
            CheckpointError: there is none, or its entry is not well formed.
        """
        entries = self._entries()
        if name not in entries:
            raise CheckpointError(
                f"{self.file}: no checkpoint {name!r}; found {list(entries)}; "
                "add it with `persona-assets checkpoint add`"
            )
        return self._parse(name, entries[name])

    def add(self, name: str, entry: dict[str, str]) -> Checkpoint:
        """Appends an entry and leaves the rest of the file as people wrote it; the same entry twice is fine.

        Raises:
            CheckpointError: the name stands for something else already, or the entry is not well formed.
        """
        entries, checkpoint = self._entries(), self._parse(name, entry)
        if name in entries:
            if self._parse(name, entries[name]) != checkpoint:
                raise CheckpointError(
                    f"{self.file}: {name} is there already, as {entries[name]}; expected another name"
                )
            return checkpoint
        text = self.file.read_text(encoding="utf-8") if self.file.is_file() else HEADER
        if not text.endswith("\n"):
            text += "\n"
        text += yaml.safe_dump({name: entry}, sort_keys=False, allow_unicode=True)
        if not _holds(text, {**entries, name: entry}):
            raise CheckpointError(
                f"{self.file}: {name} cannot be added at its end; expected names at the start of a line, not in braces"
            )
        with written_whole(self.file) as partial:
            partial.write_text(text, encoding="utf-8")
        return checkpoint

    def _entries(self) -> dict[str, Any]:
        if not self.file.is_file():
            return {}
        try:
            content = read_yaml(self.file)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        if content is not None and not isinstance(content, dict):
            raise CheckpointError(f"{self.file}: found {type(content).__name__}; expected names of checkpoints")
        return {str(name): entry for name, entry in (content or {}).items()}

    def _parse(self, name: str, entry: Any) -> Checkpoint:
        place = f"{self.file}: {name}"
        try:
            checked_name(name)
            checkpoint = Checkpoint.model_validate({**entry, "name": name} if isinstance(entry, dict) else entry)
        except ValidationError as error:
            raise CheckpointError(f"{place}: {describe_errors(error)}") from None
        except ValueError as error:
            raise CheckpointError(f"{self.file}: {error}") from None
        kinds = [checkpoint.path, checkpoint.hub, checkpoint.imported]
        if sum(kind is not None for kind in kinds) != 1 or (checkpoint.revision and not checkpoint.hub):
            raise CheckpointError(f"{place}: expected either path, or hub and revision, or imported")
        if checkpoint.hub and not COMMIT.fullmatch(checkpoint.revision or ""):
            raise CheckpointError(
                f"{place}: revision: found {checkpoint.revision!r}; "
                "expected a commit, 40 hex digits, since a branch moves"
            )
        here = self.file.parent
        return checkpoint.model_copy(
            update={
                "path": here / checkpoint.path.expanduser() if checkpoint.path else None,
                "adapter": here / checkpoint.adapter.expanduser() if checkpoint.adapter else None,
                "imported": here / checkpoint.imported if checkpoint.imported else None,
            }
        )


def _holds(text: str, entries: dict[str, Any]) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(content, dict) and {str(name): entry for name, entry in content.items()} == entries
