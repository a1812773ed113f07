"""Locations that are scanned for new checkpoints: a YAML file that users edit.

run7:
  directory: /data/run-7              # contains checkpoint-* folders; relative paths start at this file's folder
  base: qwen2.5-7b-instruct           # a registered checkpoint: the adapters' base model, and step 0
  pattern: epoch_*                    # names of the folders; by default checkpoint-*
nightly:
  hub: my-org/my-model
  branch: main                        # every new commit of this branch
"""

from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from persona_assets.checkpoints.checkpoint import CheckpointError
from persona_assets.checkpoints.named_entries import NamedEntries
from persona_assets.files.reading import shown
from persona_assets.study import checked_name
from persona_assets.study.settings import Strict


class Watch(Strict):
    """A location to scan for checkpoints; its name becomes the name of their series.

    Either `directory` or `hub` is set.

    Attributes:
        directory: a folder in which a trainer creates `checkpoint-*` folders.
        pattern: glob of those folders, relative to `directory`, such as `epoch_*` or `global_step_*/huggingface`.
        hub, branch: a hub repository and the branch to follow (default `main`).
        base: name of a registered checkpoint, which is the base model of adapters found there and step 0 of the series.
            Its tokenizer and chat template are used for full models that were saved without.
    """

    name: str
    directory: Path | None = None
    pattern: str | None = None
    hub: str | None = None
    branch: str | None = None
    base: str | None = None

    @field_validator("name", "base")
    @classmethod
    def _name(cls, name: str | None) -> str | None:
        return None if name is None else checked_name(name)

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        parts = () if pattern is None else Path(pattern).parts
        if pattern is not None and (not parts or pattern.startswith("/") or {"..", "**"} & set(parts)):
            raise ValueError(f"found {shown(pattern)}; expected names of folders, such as 'epoch_*'")
        return pattern

    @model_validator(mode="before")
    @classmethod
    def _default_branch(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("hub") and values.get("branch") is None:
            return {**values, "branch": "main"}
        return values

    @model_validator(mode="after")
    def _one_location(self) -> "Watch":
        if (self.directory is None) == (self.hub is None):
            found = "neither" if self.hub is None else "both"
            raise ValueError(f"found {found} of directory and hub; expected exactly one of them")
        if self.pattern is not None and self.directory is None:
            raise ValueError(f"pattern: found {self.pattern!r} without directory; expected it only with a directory")
        if self.branch is not None and self.hub is None:
            raise ValueError(f"branch: found {self.branch!r} without hub; expected it only with a hub repository")
        return self


class Watched(NamedEntries[Watch]):
    """The file of watched locations; `scan` looks for checkpoints in them."""

    singular, plural = "watch", "watches"
    header = "# Where to look for new checkpoints: a name, then directory, or hub and branch; optionally base.\n"

    def _parse(self, name: str, entry: Any) -> Watch:
        watch = self._validated(Watch, name, entry)
        try:
            return watch.model_copy(update={"directory": self._resolved(watch.directory)})
        except ValueError as error:
            raise CheckpointError(f"{self.file}: {name}: directory: {error}") from None
