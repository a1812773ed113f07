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

from persona_assets.checkpoints.checkpoint import CheckpointError
from persona_assets.files.atomic import atomic_write
from persona_assets.files.reading import read_text, shown
from persona_assets.files.yaml_files import LARGEST_YAML, describe_errors, parse_yaml, read_yaml
from persona_assets.study import checked_name

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

    def checked(self) -> dict[str, Entry | CheckpointError]:
        """Every entry by its name, in the order of the file, or the error that `get` would raise; read once."""
        found: dict[str, Entry | CheckpointError] = {}
        for name, entry in self._entries().items():
            try:
                found[name] = self._parse(name, entry)
            except CheckpointError as error:
                found[name] = error
        return found

    def get(self, name: str) -> Entry:
        """The entry of this name.

        Raises:
            CheckpointError: there is none, or it is not well formed.
        """
        entries = self._entries()
        if name not in entries:
            raise CheckpointError(
                f"{self.file}: no {self.one} {shown(name)}; found {shown(list(entries), 1000)}; "
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
            text = self.check_added(name, entry)
            if text is not None:
                with atomic_write(self.file) as partial:
                    partial.write_text(text, encoding="utf-8")
        return added

    def check_added(self, name: str, entry: Mapping[str, str | int]) -> str | None:
        """What the file would be with an entry more; None where it has it. Nothing is written.

        Raises:
            CheckpointError: as `add` does.
        """
        added, entries = self._parse(name, dict(entry)), self._entries()
        if name in entries:
            if self._parse(name, entries[name]) != added:
                raise CheckpointError(
                    f"{self.file}: {name} is there already, as {shown(entries[name])}; expected another name"
                )
            return None
        text = read_text(self.file, LARGEST_YAML) if self.file.exists() else self.header
        if not text.endswith("\n"):
            text += "\n"
        text += yaml.safe_dump({name: dict(entry)}, sort_keys=False, allow_unicode=True)
        if len(text.encode()) > LARGEST_YAML or not self._holds(text, {**entries, name: dict(entry)}):
            raise CheckpointError(
                f"{self.file}: {name} cannot be added at its end; expected names at the start of a line, not in "
                f"braces, and at most {LARGEST_YAML} bytes in all"
            )
        return text

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

    def _place(self, path: Path | None) -> Path | None:
        """A path of an entry: relative ones start at this file's folder, `~` is a home folder.

        Raises:
            ValueError: there is no such home folder, or it can be no path.
        """
        if path is None:
            return None
        try:
            place = self.file.parent / path.expanduser()
        except RuntimeError:
            raise ValueError(f"found {shown(str(path))}; expected the home folder of somebody who has one") from None
        if "\0" in str(place) or len(bytes(place)) > 4000 or any(len(bytes(Path(part))) > 255 for part in place.parts):
            raise ValueError(f"found {shown(str(path))}; expected a path, with names of at most 255 bytes")
        return place

    def _entries(self) -> dict[str, Any]:
        if not self.file.exists():
            return {}
        try:
            content = read_yaml(self.file)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        return self._named(content)

    def _named(self, content: Any) -> dict[str, Any]:
        if content is not None and not isinstance(content, dict):
            raise CheckpointError(f"{self.file}: found {type(content).__name__}; expected names of {self.many}")
        entries: dict[str, Any] = {}
        for name, entry in (content or {}).items():
            if str(name) in entries:  # 7 and "7" are two names in YAML
                raise CheckpointError(f"{self.file}: {shown(str(name))} stands twice; expected it once")
            entries[str(name)] = entry
        return entries

    def _holds(self, text: str, entries: dict[str, Any]) -> bool:
        """Whether a text would be read as these entries."""
        try:
            return self._named(parse_yaml(text, self.file)) == entries
        except ValueError:
            return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time: a sensor and a person who add at once must not lose each other's entry."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.with_name(f".{self.file.name}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go when the file is closed, whatever happens
            yield
