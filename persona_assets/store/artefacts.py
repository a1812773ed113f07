"""The artefact store: what was computed, addressed by the digest of everything that it was made from.

    artefacts/<asset>/<fingerprint>.parquet | .nc | <folder of files>
    artefacts/<asset>/<fingerprint>.json        what it was made from, what it cost, SHA-256 of the content

The JSON is written last: an artefact without it was never finished and does not exist. Nothing is overwritten, so
other inputs never lose what earlier ones gave, and nothing is deleted unless a person prunes it: then the JSON stays
and says what had been there.
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
    """A value as the bytes that are written of it, for whoever makes it elsewhere.

    Attributes:
        suffix: what the name of its file ends with; empty where it is a folder.
        files: the folder's files by name; or the file's bytes, under an empty name.
    """

    suffix: str
    files: Files


# What the name of a mapping's content ends with, as against that of its record.
VALUE = ".value.json"


class ArtefactError(RuntimeError):
    """An artefact that is not there or not what it was when it was written; says which and what to do."""


@dataclass(frozen=True)
class Artefact:
    """One finished artefact.

    Attributes:
        asset, fingerprint: its address.
        path: the file or folder with its content.
        made_from: everything that its fingerprint is the digest of.
        measured: what a person asks: tokens, seconds, device; no part of the identity.
        pruned: when a person had the content deleted, if so.
    """

    asset: str
    fingerprint: str
    path: Path
    made_from: dict[str, Any]
    measured: dict[str, Any]
    sha256: str
    pruned: str | None = None

    def read(self) -> Any:
        """The value: a table, a dataset, a mapping, or the files by name.

        Raises:
            ArtefactError: the content was pruned, is missing or has another checksum than when it was written.
        """
        if self.pruned and not self.path.exists():
            raise ArtefactError(f"{self.path}: was pruned at {self.pruned}; materialise {self.asset} again")
        if not self.path.exists() or digest_of_path(self.path) != self.sha256:
            raise ArtefactError(
                f"{self.path}: the content is missing or damaged (its SHA-256 is not the recorded one); "
                f"move {self.path.name} and its .json away and materialise {self.asset} again"
            )
        return _read(self.path)

    def intact(self) -> bool:
        """Whether the content is there with the checksum that it was written with."""
        return self.path.exists() and digest_of_path(self.path) == self.sha256


class ArtefactStore:
    """Finds and writes artefacts below one folder; safe to be killed at any moment.

    With `shared`, what is finished here is copied there, and what is missing here is taken from there.
    """

    def __init__(self, root: Path, shared: SharedStorage | None = None) -> None:
        self.root, self.shared = root, shared

    def find(self, asset: str, made_from: Mapping[str, Any]) -> Artefact | None:
        """The artefact made from exactly this, if it was finished and its content is intact; else None.

        Damaged content is set aside (`.damaged`) and said, so that it is computed again and can still be looked at.
        """
        fingerprint = digest_of(made_from)
        artefact = self._intact(asset, fingerprint)
        if artefact is None:
            return self._fetched(asset, fingerprint)
        self._share(artefact)
        return artefact

    def _fetched(self, asset: str, fingerprint: str) -> Artefact | None:
        """What the shared storage has at an address, brought here."""
        if self.shared is None or not self.shared.fetch(asset, fingerprint, self.root / asset):
            return None
        _log.info(f"{asset}: {fingerprint[:12]} is from {self.shared.url}")
        return self._load(asset, fingerprint)

    def _intact(self, asset: str, fingerprint: str) -> Artefact | None:
        """What this host has at an address, if its bytes are those that were written; what is damaged is set aside."""
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
        """Where the shared storage does not answer the artefact stays here, and goes there when it is next found."""
        if self.shared:
            try:
                self.shared.give(
                    artefact.asset,
                    artefact.fingerprint,
                    artefact.path,
                    self._record(artefact.asset, artefact.fingerprint),
                )
            except SharedStorageError as error:
                _log.warning(f"{artefact.asset}: {artefact.fingerprint[:12]} is on this host alone: {error}")

    def set_aside(self, record: Path) -> None:
        """Moves a record and its content to names that end with `.damaged`, where nothing is found any more."""
        content = [path for path in record.parent.glob(f"{record.stem}*") if ".damaged" not in path.name]
        for path in [record, *(path for path in content if path != record)]:  # without its record it does not exist
            path.rename(_unused(path.with_name(path.name + ".damaged")))
        _log.warning(
            f"{record.parent.name}: {record.stem} is damaged: its bytes are not those that were written; "
            f"set aside in {record.parent}, and made again when it is asked for"
        )

    def has(self, asset: str, fingerprint: str) -> bool:
        """Whether a finished artefact with all its bytes is at an address, here or on the shared storage."""
        artefact = self._load(asset, fingerprint)
        if artefact is None and self.shared:
            return self.shared.has(asset, fingerprint)
        return artefact is not None and artefact.intact()

    def is_pruned(self, asset: str, fingerprint: str) -> bool:
        """Whether a person had the content at an address deleted, and it was not made again."""
        artefact = self._load(asset, fingerprint)
        return artefact is not None and artefact.pruned is not None

    def all(self, asset: str) -> Iterator[Artefact]:
        """Every finished artefact of an asset, pruned ones too."""
        for file in sorted((self.root / asset).glob("*.json")):
            if not file.name.endswith(VALUE) and (artefact := self._load(asset, file.stem)):
                yield artefact

    def prune(self, artefact: Artefact) -> int:
        """Deletes an artefact's content and notes it in the record, which stays; returns the bytes freed."""
        freed = size_of(artefact.path)
        self._write_record(replace(artefact, pruned=datetime.now(UTC).isoformat(timespec="seconds")))
        # Last, so that whoever is killed here leaves bytes behind and no record of content that is gone.
        if artefact.path.is_dir():
            shutil.rmtree(artefact.path)
        else:
            artefact.path.unlink(missing_ok=True)
        return freed

    def get(self, asset: str, fingerprint: str) -> Artefact:
        """The artefact at an address.

        Raises:
            ArtefactError: nothing finished is there.
        """
        artefact = self._load(asset, fingerprint) or self._fetched(asset, fingerprint)
        if artefact is None:
            raise ArtefactError(f"{self._record(asset, fingerprint)} is not there; materialise {asset} again")
        return artefact

    def put(
        self, asset: str, made_from: Mapping[str, Any], value: Value | Encoded, measured: Mapping[str, Any]
    ) -> Artefact:
        """Writes a value beside its final name, flushes, renames; the record comes last.

        Where another process has stored it meanwhile, that one stays and is returned.
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
        """Holds addresses against other processes while what belongs there is made; see `claims`."""
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
                f"{file}: is no artefact's record ({error!r}); move it away and materialise {asset} again"
            ) from error


def size_of(path: Path) -> int:
    """Bytes of a file, or of a folder's files; 0 where nothing is there."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _unused(path: Path) -> Path:
    """The path, or the first of path.2, path.3, … that is not there."""
    candidates = chain([path], (path.with_name(f"{path.name}.{number}") for number in count(2)))
    return next(candidate for candidate in candidates if not candidate.exists())


def encode(value: Value) -> Encoded:
    """The bytes that are stored of a value: the same wherever they are made."""
    match value:
        case pd.DataFrame():
            table = io.BytesIO()
            pq.write_table(pa.Table.from_pandas(value, preserve_index=False), table)
            return Encoded(".parquet", {"": table.getvalue()})
        case xr.Dataset():
            compressed = {name: {"zlib": True, "complevel": 4} for name in value.data_vars if value[name].size > 1000}
            # By way of memory: HDF5 that cannot write its file out, on a full disk, takes the process down later on.
            return Encoded(".nc", {"": bytes(value.to_netcdf(engine="h5netcdf", encoding=compressed))})
        case dict() if all(isinstance(content, bytes) for content in value.values()):
            return Encoded("", value)
        case dict():
            return Encoded(VALUE, {"": json.dumps(value, indent=1, ensure_ascii=False).encode()})


def content_of(artefact: Artefact) -> Encoded:
    """An artefact's content as it was written."""
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
