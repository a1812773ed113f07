"""Artefact storage shared between hosts, behind each host's own store: S3, or a folder mounted by all hosts.

    URL/<asset>/<SHA-256 of the content>/<content>     a file, or a folder of files
    URL/<asset>/<fingerprint>.json                     a copy of the store's record

Each host reads and writes its own store, because object storage supports neither locks nor renames. A finished artefact
is copied from the store to the URL, and a missing one is looked up at the URL before it is computed. Content is
addressed by its SHA-256 and the record is written last, so two hosts that compute the same artefact at the same time
leave one record together with the content that it names. Downloaded content is checked against the record's SHA-256.
"""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from persona_assets.files.atomic import atomic_write
from persona_assets.files.digest import digest_of_path
from persona_assets.files.redaction import redact

# An fsspec URL: s3://bucket/folder (with the extra s3), file:///mounted/folder, …
VARIABLE = "PERSONA_ASSETS_SHARED"


class SharedStorageError(RuntimeError):
    """Shared storage cannot be reached or contains invalid data; the message says where and what to do."""


@dataclass(frozen=True)
class SharedStorage:
    """Artefact storage shared with other hosts, addressed by an fsspec URL."""

    url: str

    @classmethod
    def of_environment(cls) -> "SharedStorage | None":
        """Return the storage that PERSONA_ASSETS_SHARED names, or None if it is not set."""
        url = os.environ.get(VARIABLE)
        return cls(url) if url else None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """Return fsspec's file system and the folder in it."""
        import fsspec

        with self._explained("opened"):
            # A cached listing would hide artefacts that another host has written since.
            system, folder = fsspec.url_to_fs(self.url, use_listings_cache=False)
        return system, folder.rstrip("/")

    def has(self, asset: str, fingerprint: str) -> bool:
        """Return whether a finished artefact is in the shared storage.

        Raises:
            SharedStorageError: the storage cannot be reached.
        """
        system, _ = self._place
        with self._explained("queried"):
            return bool(system.exists(self._record(asset, fingerprint)))

    def give(self, asset: str, fingerprint: str, content: Path, record: Path) -> None:
        """Copy an artefact to the shared storage, unless it is already there.

        Raises:
            SharedStorageError: it could not be copied. The artefact on this host is unaffected.
        """
        if self.has(asset, fingerprint):
            return
        folder = self._content(asset, json.loads(record.read_bytes())["sha256"])
        files = sorted(content.iterdir()) if content.is_dir() else [content]
        with self._explained("written to"):
            for file in files:
                # The folder's name in the path distinguishes a folder from a file.
                inside = f"{content.name}/{file.name}" if content.is_dir() else file.name
                self._put(file, f"{folder}/{inside}", asset)
            self._put(record, self._record(asset, fingerprint), asset)

    def _put(self, file: Path, target: str, asset: str) -> None:
        """Upload to a temporary name and rename, so that other hosts never see a partly written file."""
        system, root = self._place
        partial = f"{root}/{asset}/{uuid.uuid4().hex}.partial"
        system.makedirs(target.rpartition("/")[0], exist_ok=True)
        system.put_file(str(file), partial)
        system.mv(partial, target)

    def fetch(self, asset: str, fingerprint: str, into: Path) -> bool:
        """Copy an artefact into the store's folder of an asset, its record last; return whether it was found.

        Raises:
            SharedStorageError: the storage cannot be reached, or the content does not match its record.
        """
        if not self.has(asset, fingerprint):
            return False
        system, _ = self._place
        with self._explained("read"):
            written = system.cat_file(self._record(asset, fingerprint))
        name, sha256 = self._named(asset, fingerprint, written)
        remote = f"{self._content(asset, sha256)}/{name}"
        with atomic_write(into / name) as partial:
            with self._explained("read"):
                self._copy(remote, partial)
            if digest_of_path(partial) != sha256:
                raise SharedStorageError(
                    f"{self.url}: {asset}/{fingerprint}: the content's SHA-256 differs from the recorded one; "
                    f"delete {self._record(asset, fingerprint)} and run again"
                )
        with atomic_write(into / f"{fingerprint}.json") as partial:
            partial.write_bytes(written)
        return True

    def _copy(self, remote: str, target: Path) -> None:
        system, _ = self._place
        if system.isfile(remote):
            system.get_file(remote, str(target))
            return
        target.mkdir()
        for file in system.ls(remote, detail=False):
            system.get_file(file, str(target / file.rpartition("/")[2]))

    def _named(self, asset: str, fingerprint: str, written: bytes) -> tuple[str, str]:
        """Return the content's name and SHA-256 from a record; reject names that lead out of the folder."""
        try:
            record = json.loads(written)
            name, sha256 = str(record["content"]), str(record["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise SharedStorageError(
                f"{self.url}: {asset}/{fingerprint}.json is not an artefact record ({error!r}); delete it and run again"
            ) from error
        if not name.startswith(fingerprint) or Path(name).name != name or not sha256.isalnum():
            raise SharedStorageError(
                f"{self.url}: {asset}/{fingerprint}.json: content: found {name[:80]!r}; "
                f"expected a name that begins with {fingerprint}"
            )
        return name, sha256

    def _record(self, asset: str, fingerprint: str) -> str:
        return f"{self._place[1]}/{asset}/{fingerprint}.json"

    def _content(self, asset: str, sha256: str) -> str:
        return f"{self._place[1]}/{asset}/{sha256}"

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Turn any error into a SharedStorageError, because each library behind fsspec raises its own types."""
        try:
            yield
        except Exception as error:
            message = f"{VARIABLE}: {self.url} cannot be {what}: {type(error).__name__}: {error}"
            raise SharedStorageError(redact(message)) from None
