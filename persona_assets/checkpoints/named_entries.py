"""A YAML file of named entries, edited by users and appended to by the project.

Entries are validated when they are read. Appending keeps the existing text, including comments and order.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from persona_assets.checkpoints.checkpoint import CheckpointError
from persona_assets.files.atomic import atomic_write
from persona_assets.files.reading import read_text, shown
from persona_assets.files.yaml_files import LARGEST_YAML, describe_errors, parse_yaml, read_yaml
from persona_assets.store.locks import acquire
from persona_assets.study import checked_name

Entry = TypeVar("Entry")
Model = TypeVar("Model", bound=BaseModel)


class NamedEntries(ABC, Generic[Entry]):
    """Base class of such files; a subclass defines the type of an entry.

    Attributes:
        singular, plural: what entries are called; `persona-assets <singular> add` adds one.
        header: the first line of a new file.
    """

    singular: ClassVar[str]
    plural: ClassVar[str]
    header: ClassVar[str]

    def __init__(self, file: Path) -> None:
        self.file = file

    def names(self) -> list[str]:
        """Return the names of all entries, in file order."""
        return list(self._entries())

    def all(self) -> list[Entry]:
        """Return all entries, in file order.

        Raises:
            CheckpointError: an entry is invalid.
        """
        return [self._parse(name, entry) for name, entry in self._entries().items()]

    def checked(self) -> dict[str, Entry | CheckpointError]:
        """Return every entry, or the error that `get` would raise for it, by name; parses the file only once."""
        found: dict[str, Entry | CheckpointError] = {}
        for name, entry in self._entries().items():
            try:
                found[name] = self._parse(name, entry)
            except CheckpointError as error:
                found[name] = error
        return found

    def get(self, name: str) -> Entry:
        """Return the entry of this name.

        Raises:
            CheckpointError: there is no such entry, or it is invalid.
        """
        entries = self._entries()
        if name not in entries:
            raise CheckpointError(
                f"{self.file}: no {self.singular} {shown(name)}; found {shown(list(entries), 1000)}; "
                f"add it with `persona-assets {self.singular} add`"
            )
        return self._parse(name, entries[name])

    def parsed(self, name: str, entry: Mapping[str, str | int]) -> Entry:
        """Return an entry as it would be read from the file, without adding it.

        Raises:
            CheckpointError: the entry is invalid.
        """
        return self._parse(name, dict(entry))

    def add(self, name: str, entry: Mapping[str, str | int]) -> Entry:
        """Append an entry, keeping the rest of the file unchanged, and return it; adding it again has no effect.

        Raises:
            CheckpointError: the name belongs to a different entry, or the entry is invalid.
        """
        self.add_all({name: entry})
        return self._parse(name, dict(entry))

    def add_all(self, new: Mapping[str, Mapping[str, str | int]]) -> None:
        """Append several entries at once; see `add`.

        Raises:
            CheckpointError: the same errors as `add`; then nothing is appended.
        """
        with self._locked():
            self._write(self._appended(new))

    def check_added(self, name: str, entry: Mapping[str, str | int]) -> str | None:
        """Return the text of the file with the entry appended, or None if it is already there; write nothing.

        Raises:
            CheckpointError: the same errors as `add`.
        """
        return self._appended({name: entry})

    def _appended(self, new: Mapping[str, Mapping[str, str | int]]) -> str | None:
        entries, added = self._entries(), {}
        for name, entry in new.items():
            parsed = self._parse(name, dict(entry))
            if name not in entries:
                added[name] = dict(entry)
            elif self._parse(name, entries[name]) != parsed:
                raise CheckpointError(
                    f"{self.file}: {name} already exists, as {shown(entries[name])}; expected another name"
                )
        if not added:
            return None
        text = self._text()
        if not text.endswith("\n"):
            text += "\n"
        text += yaml.safe_dump(added, sort_keys=False, allow_unicode=True)
        if len(text.encode()) > LARGEST_YAML or not self._parses_to(text, {**entries, **added}):
            raise CheckpointError(
                f"{self.file}: {', '.join(added)} cannot be appended; expected names at the start of a line, not in "
                f"braces, and at most {LARGEST_YAML} bytes in total"
            )
        return text

    def remove(self, name: str) -> None:
        """Remove an entry, keeping the rest of the file unchanged.

        Raises:
            CheckpointError: there is no such entry, or its lines cannot be told from others.
        """
        with self._locked():
            entries = self._entries()
            if name not in entries:
                self.get(name)
            lines = self._text().splitlines(keepends=True)
            starts = [number for number, line in enumerate(lines) if not line.startswith((" ", "\t", "\n", "\r", "#"))]
            rest = {other: entry for other, entry in entries.items() if other != name}
            for start, stop in pairwise([*starts, len(lines)]):
                if self._entry_names("".join(lines[start:stop])) == [name]:
                    while stop > start + 1 and lines[stop - 1].startswith(("#", "\n", "\r")):
                        stop -= 1  # comments in front of the next entry stay
                    text = "".join(lines[:start] + lines[stop:])
                    if self._parses_to(text, rest):
                        self._write(text)
                        return
            raise CheckpointError(f"{self.file}: {name} cannot be removed by the program; delete its lines")

    def _entry_names(self, text: str) -> list[str]:
        try:
            return list(self._by_name(parse_yaml(text, self.file)))
        except ValueError:
            return []

    def _text(self) -> str:
        return read_text(self.file, LARGEST_YAML) if self.file.exists() else self.header

    def _write(self, text: str | None) -> None:
        if text is not None:
            with atomic_write(self.file) as partial:
                partial.write_text(text, encoding="utf-8")

    @abstractmethod
    def _parse(self, name: str, entry: Any) -> Entry:
        """Return the validated entry.

        Raises:
            CheckpointError: names the file, the entry, the field, what was found and what was expected.
        """

    def _validated(self, model: type[Model], name: str, entry: Any) -> Model:
        """Return the entry as an instance of `model`, with its name."""
        try:
            checked_name(name)
            return model.model_validate({**entry, "name": name} if isinstance(entry, dict) else entry)
        except ValidationError as error:
            raise CheckpointError(f"{self.file}: {name}: {describe_errors(error)}") from None
        except ValueError as error:
            raise CheckpointError(f"{self.file}: {error}") from None

    def _resolved(self, path: Path | None) -> Path | None:
        """Return a path of an entry, relative to this file's folder, with `~` expanded.

        Raises:
            ValueError: the home folder does not exist, or the text is not a valid path.
        """
        if path is None:
            return None
        try:
            place = self.file.parent / path.expanduser()
        except RuntimeError:
            raise ValueError(f"found {shown(str(path))}; expected the home folder of an existing user") from None
        if "\0" in str(place) or len(bytes(place)) > 4000 or any(len(bytes(Path(part))) > 255 for part in place.parts):
            raise ValueError(f"found {shown(str(path))}; expected a path whose parts have at most 255 bytes")
        return place

    def _entries(self) -> dict[str, Any]:
        if not self.file.exists():
            return {}
        try:
            content = read_yaml(self.file)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        return self._by_name(content)

    def _by_name(self, content: Any) -> dict[str, Any]:
        if content is not None and not isinstance(content, dict):
            raise CheckpointError(
                f"{self.file}: found {type(content).__name__}; expected a mapping of {self.plural} by name"
            )
        entries: dict[str, Any] = {}
        for name, entry in (content or {}).items():
            if str(name) in entries:  # 7 and "7" are different YAML keys
                raise CheckpointError(f"{self.file}: {shown(str(name))} appears twice; expected it once")
            entries[str(name)] = entry
        return entries

    def _parses_to(self, text: str, entries: dict[str, Any]) -> bool:
        """Return whether the text parses to these entries."""
        try:
            return self._by_name(parse_yaml(text, self.file)) == entries
        except ValueError:
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold an exclusive lock, so that a sensor and a user who add entries at once do not overwrite each other."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with acquire(self.file.with_name(f".{self.file.name}.lock")):
            yield
