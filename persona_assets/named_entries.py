"""A YAML file of named entries that people read and edit, and that the project appends to.

An entry is checked when it is read. What people wrote, comments and order included, survives an addition.
"""

import fcntl
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from persona_assets.checkpoint import CheckpointError
from persona_assets.files import written_whole
from persona_assets.study import checked_name
from persona_assets.yaml_files import describe_errors, read_yaml

Entry = TypeVar("Entry")
Model = TypeVar("Model", bound=BaseModel)


class NamedEntries(ABC, Generic[Entry]):
    """The file; a subclass says what an entry is.

    Attributes:
        one, many: what an entry is called; `persona-assets <one> add` adds one.
        header: the first line of a new file.
    """

    one: ClassVar[str]
    many: ClassVar[str]
    header: ClassVar[str]

    def __init__(self, file: Path) -> None:
        self.file = file

    def names(self) -> list[str]:
        """The names of all entries, in the order of the file."""
        return list(self._entries())

    def all(self) -> list[Entry]:
        """All entries, in the order of the file.

        Raises:
            CheckpointError: one of them is not well formed.
        """
        return [self._parse(name, entry) for name, entry in self._entries().items()]

    def get(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            CheckpointError: there is none, or it is not well formed.
        """
        entries = self._entries()
        if name not in entries:
            raise CheckpointError(
                f"{self.file}: no {self.one} {name!r}; found {list(entries)}; "
                f"add it with `persona-assets {self.one} add`"
            )
        return self._parse(name, entries[name])

    def add(self, name: str, entry: Mapping[str, str | int]) -> Entry:
        """Appends an entry and leaves the rest of the file as people wrote it; the same entry twice is fine.

        Raises:
            CheckpointError: the name stands for something else already, or the entry is not well formed.
        """
        added = self._parse(name, dict(entry))
        with self._alone():
            entries = self._entries()
            if name in entries:
                if self._parse(name, entries[name]) != added:
                    raise CheckpointError(
                        f"{self.file}: {name} is there already, as {entries[name]}; expected another name"
                    )
                return added
            text = self.file.read_text(encoding="utf-8") if self.file.is_file() else self.header
            if not text.endswith("\n"):
                text += "\n"
            text += yaml.safe_dump({name: dict(entry)}, sort_keys=False, allow_unicode=True)
            if not _holds(text, {**entries, name: dict(entry)}):
                raise CheckpointError(
                    f"{self.file}: {name} cannot be added at its end; "
                    "expected names at the start of a line, not in braces"
                )
            with written_whole(self.file) as partial:
                partial.write_text(text, encoding="utf-8")
        return added

    @abstractmethod
    def _parse(self, name: str, entry: Any) -> Entry:
        """The entry, checked; a CheckpointError names the file, the name, the field, what was found and expected."""

    def _validated(self, model: type[Model], name: str, entry: Any) -> Model:
        """The entry as its model, under its name."""
        try:
            checked_name(name)
            return model.model_validate({**entry, "name": name} if isinstance(entry, dict) else entry)
        except ValidationError as error:
            raise CheckpointError(f"{self.file}: {name}: {describe_errors(error)}") from None
        except ValueError as error:
            raise CheckpointError(f"{self.file}: {error}") from None

    def _entries(self) -> dict[str, Any]:
        if not self.file.is_file():
            return {}
        try:
            content = read_yaml(self.file)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        if content is not None and not isinstance(content, dict):
            raise CheckpointError(f"{self.file}: found {type(content).__name__}; expected names of {self.many}")
        return {str(name): entry for name, entry in (content or {}).items()}

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time: a sensor and a person who add at once must not lose each other's entry."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_name(f".{self.file.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, whatever happens
            yield


def _holds(text: str, entries: dict[str, Any]) -> bool:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(content, dict) and {str(name): entry for name, entry in content.items()} == entries
