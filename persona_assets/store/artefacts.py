"""Artefact store: computed results, addressed by the digest of everything that they were made from.

    artefacts/<asset>/<fingerprint>.parquet | .nc | <folder of files>
    artefacts/<asset>/<fingerprint>.json        record: inputs, cost, SHA-256 of the content

The record is written last: an artefact without a record is unfinished and treated as missing. Artefacts are never
overwritten, so changed inputs do not replace earlier results. Content is deleted only when a user prunes it; the record
stays and documents what was deleted.
"""

import io
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr

from persona_assets.files.atomic import atomic_write
from persona_assets.files.digest import digest_of, digest_of_path
from persona_assets.store.locks import locked
from persona_assets.store.shared import SharedStorage, SharedStorageError

_log = logging.getLogger(__name__)

Table = pd.DataFrame
Files = dict[str, bytes]
Value = Table | xr.Dataset | Files | dict[str, Any]


@dataclass(frozen=True)
class Encoded:
    """A value serialised to bytes, as sent by workers in other processes.

    Attributes:
        suffix: suffix of the file's name; empty for a folder.
        files: the folder's files by name, or a single file's bytes under an empty name.
    """

    suffix: str
    files: Files


# Suffix of a mapping's content, which distinguishes it from the record (.json).
VALUE = ".value.json"


class ArtefactError(RuntimeError):
    """An artefact is missing or damaged; the message names it and says what to do."""


@dataclass(frozen=True)
class Artefact:
    """One finished artefact.

    Attributes:
        asset, fingerprint: its address.
        path: the file or folder with its content.
        made_from: the inputs; the fingerprint is their digest.
        measured: tokens, seconds, device and similar facts for display; not part of the identity.
        pruned: time at which a user deleted the content, or None.
    """

    asset: str
    fingerprint: str
    path: Path
    made_from: dict[str, Any]
    measured: dict[str, Any]
    sha256: str
    pruned: str | None = None

    def read(self) -> Any:
        """Return the value: a table, a dataset, a mapping, or the files by name.

        Raises:
            ArtefactError: the content was pruned, is missing, or does not match its checksum.
        """
        if self.pruned and not self.path.exists():
            raise ArtefactError(f"{self.path}: was pruned at {self.pruned}; materialise {self.asset} again")
        if not self.path.exists() or digest_of_path(self.path) != self.sha256:
            raise ArtefactError(
                f"{self.path}: the content is missing or damaged (its SHA-256 differs from the recorded one); "
                f"move {self.path.name} and its .json away and materialise {self.asset} again"
            )
        return _read(self.path)

    def intact(self) -> bool:
        """Return whether the content exists and matches its checksum."""
        return self.path.exists() and digest_of_path(self.path) == self.sha256


class ArtefactStore:
    """Store that finds and writes artefacts below one folder; killing the process at any moment leaves it consistent.

    With `shared`, finished artefacts are copied to the shared storage, and missing ones are fetched from it.
    """

    def __init__(self, root: Path, shared: SharedStorage | None = None) -> None:
        self.root, self.shared = root, shared

    def find(self, asset: str, made_from: Mapping[str, Any]) -> Artefact | None:
        """Return the artefact made from exactly these inputs if it is finished and intact, else None.

        Damaged content is renamed (`.damaged`) and logged, so that it is computed again and can still be inspected.
        """
        fingerprint = digest_of(made_from)
        artefact = self._intact(asset, fingerprint)
        if artefact is None:
            return self._fetched(asset, fingerprint)
        self._share(artefact)
        return artefact

    def _fetched(self, asset: str, fingerprint: str) -> Artefact | None:
        """Fetch an artefact from the shared storage; return None if it is not there."""
        if self.shared is None or not self.shared.fetch(asset, fingerprint, self.root / asset):
            return None
        _log.info(f"{asset}: fetched {fingerprint[:12]} from {self.shared.url}")
        return self._load(asset, fingerprint)

    def _intact(self, asset: str, fingerprint: str) -> Artefact | None:
        """Return this host's artefact at an address if it is intact; set it aside if it is damaged."""
        try:
            artefact = self._load(asset, fingerprint)
        except ArtefactError:
            self.set_aside(self._record(asset, fingerprint))
            return None
        if artefact is None or artefact.intact():
            return artefact
        if not artefact.pruned:
            self.set_aside(self._record(asset, fingerprint))
        return None

    def _share(self, artefact: Artefact) -> None:
        """Copy an artefact to the shared storage; if that fails, it is copied the next time the artefact is found."""
        if self.shared:
            try:
                self.shared.give(
                    artefact.asset,
                    artefact.fingerprint,
                    artefact.path,
                    self._record(artefact.asset, artefact.fingerprint),
                )
            except SharedStorageError as error:
                _log.warning(f"{artefact.asset}: {artefact.fingerprint[:12]} is on this host only: {error}")

    def set_aside(self, record: Path) -> None:
        """Rename a record and its content to `*.damaged`, so that the store no longer finds them."""
        content = [path for path in record.parent.glob(f"{record.stem}*") if ".damaged" not in path.name]
        # The record is renamed first: without it the artefact counts as missing.
        for path in [record, *(path for path in content if path != record)]:
            path.rename(_unused(path.with_name(path.name + ".damaged")))
        _log.warning(
            f"{record.parent.name}: {record.stem} is damaged (invalid record or wrong SHA-256); "
            f"renamed to *.damaged in {record.parent}; it is computed again when it is needed"
        )

    def has(self, asset: str, fingerprint: str) -> bool:
        """Return whether an intact artefact is at an address, in this store or in the shared storage."""
        artefact = self._load(asset, fingerprint)
        if artefact is None and self.shared:
            return self.shared.has(asset, fingerprint)
        return artefact is not None and artefact.intact()

    def is_pruned(self, asset: str, fingerprint: str) -> bool:
        """Return whether the content at an address was pruned and has not been computed again."""
        artefact = self._load(asset, fingerprint)
        return artefact is not None and artefact.pruned is not None

    def all(self, asset: str) -> Iterator[Artefact]:
        """Yield every finished artefact of an asset, including pruned ones."""
        for file in sorted((self.root / asset).glob("*.json")):
            if not file.name.endswith(VALUE) and (artefact := self._load(asset, file.stem)):
                yield artefact

    def prune(self, artefact: Artefact) -> int:
        """Delete an artefact's content, mark its record as pruned, and return the number of bytes freed."""
        freed = size_of(artefact.path)
        self._write_record(replace(artefact, pruned=datetime.now(UTC).isoformat(timespec="seconds")))
        # The content is deleted last: a process killed here leaves unused bytes, not a record of missing content.
        if artefact.path.is_dir():
            shutil.rmtree(artefact.path)
        else:
            artefact.path.unlink(missing_ok=True)
        return freed

    def get(self, asset: str, fingerprint: str) -> Artefact:
        """Return the artefact at an address.

        Raises:
            ArtefactError: there is no finished artefact.
        """
        artefact = self._load(asset, fingerprint) or self._fetched(asset, fingerprint)
        if artefact is None:
            raise ArtefactError(f"{self._record(asset, fingerprint)} does not exist; materialise {asset} again")
        return artefact

    def put(
        self, asset: str, made_from: Mapping[str, Any], value: Value | Encoded, measured: Mapping[str, Any]
    ) -> Artefact:
        """Store a value with an atomic write, then its record.

        If another process has stored the artefact in the meantime, keep that one and return it.
        """
        fingerprint, encoded = digest_of(made_from), value if isinstance(value, Encoded) else encode(value)
        with self.locked(asset, [fingerprint]):
            if (stored := self._intact(asset, fingerprint)) is not None:
                return stored
            path = self.root / asset / f"{fingerprint}{encoded.suffix}"
            with atomic_write(path) as partial:
                _write(partial, encoded)
                sha256 = digest_of_path(partial)
            self._write_record(Artefact(asset, fingerprint, path, dict(made_from), dict(measured), sha256))
            artefact = self.get(asset, fingerprint)
            self._share(artefact)
            return artefact

    def locked(
        self, asset: str, fingerprints: Iterable[str], say: Callable[[str], None] = lambda _: None
    ) -> AbstractContextManager[None]:
        """Lock addresses against other processes while their artefacts are computed; see `store.locks`."""
        # The folder keeps its earlier name, so that processes of earlier versions use the same lock files.
        return locked(self.root / asset / ".claims", fingerprints, say)

    def _write_record(self, artefact: Artefact) -> None:
        record = {
            "asset": artefact.asset,
            "content": artefact.path.name,
            "sha256": artefact.sha256,
            "made_from": artefact.made_from,
            "measured": artefact.measured,
            **({"pruned": artefact.pruned} if artefact.pruned else {}),
        }
        with atomic_write(self._record(artefact.asset, artefact.fingerprint)) as partial:
            partial.write_text(json.dumps(record, indent=1, ensure_ascii=False), encoding="utf-8")

    def _record(self, asset: str, fingerprint: str) -> Path:
        return self.root / asset / f"{fingerprint}.json"

    def _load(self, asset: str, fingerprint: str) -> Artefact | None:
        file = self._record(asset, fingerprint)
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ArtefactError(f"{file}: is not JSON: {error}; move it away and materialise {asset} again") from error
        try:
            return Artefact(
                asset,
                fingerprint,
                file.parent / record["content"],
                record["made_from"],
                record["measured"],
                record["sha256"],
                record.get("pruned"),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(
                f"{file}: is not an artefact record ({error!r}); move it away and materialise {asset} again"
            ) from error


def size_of(path: Path) -> int:
    """Return the size in bytes of a file or of a folder's files; 0 if the path does not exist."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _unused(path: Path) -> Path:
    """Return the path, or the first of path.2, path.3, … that does not exist."""
    candidates = chain([path], (path.with_name(f"{path.name}.{number}") for number in count(2)))
    return next(candidate for candidate in candidates if not candidate.exists())


def encode(value: Value) -> Encoded:
    """Serialise a value to the bytes that are stored; the result does not depend on the host."""
    match value:
        case pd.DataFrame():
            table = io.BytesIO()
            pq.write_table(pa.Table.from_pandas(value, preserve_index=False), table)
            return Encoded(".parquet", {"": table.getvalue()})
        case xr.Dataset():
            compressed = {name: {"zlib": True, "complevel": 4} for name in value.data_vars if value[name].size > 1000}
            # Serialised in memory: if HDF5 cannot write to a full disk, it crashes the process later.
            return Encoded(".nc", {"": bytes(value.to_netcdf(engine="h5netcdf", encoding=compressed))})
        case dict() if all(isinstance(content, bytes) for content in value.values()):
            return Encoded("", value)
        case dict():
            return Encoded(VALUE, {"": json.dumps(value, indent=1, ensure_ascii=False).encode()})


def content_of(artefact: Artefact) -> Encoded:
    """Return an artefact's content as stored."""
    path = artefact.path
    if path.is_dir():
        return Encoded("", {file.name: file.read_bytes() for file in sorted(path.iterdir())})
    return Encoded(path.name.removeprefix(artefact.fingerprint), {"": path.read_bytes()})


def _write(path: Path, value: Encoded) -> None:
    if value.suffix:
        path.write_bytes(value.files[""])
        return
    path.mkdir()
    for name, content in value.files.items():
        (path / name).write_bytes(content)


def _read(path: Path) -> Value:
    if path.is_dir():
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())}
    match path.suffix:
        case ".parquet":
            return pd.read_parquet(path)
        case ".nc":
            with xr.open_dataset(path, engine="h5netcdf") as dataset:
                return dataset.load()
        case _:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return content
