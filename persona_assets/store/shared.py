"""Artefacts on storage that hosts share, behind each host's own store: S3, or a folder that all of them mount.

    URL/<asset>/<SHA-256 of the content>/<content>     a file, or a folder of files
    URL/<asset>/<fingerprint>.json                     the store's record, as it is

A host reads and writes its own store, which locks and renames; object storage can do neither. What is finished there is
copied to the URL, and what is missing there is looked for at the URL before it is computed. Content is addressed by its
bytes and the record comes last, so two hosts that computed the same thing at once leave one record with the content
that it names, whoever was first. Whatever comes from there is compared with the record's SHA-256.
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

# fsspec's address of it: s3://bucket/folder (with the extra s3), file:///mounted/folder, …
VARIABLE = "PERSONA_ASSETS_SHARED"


class SharedStorageError(RuntimeError):
    """Storage that cannot be reached, or holds what no store wrote; says where and what to do."""


@dataclass(frozen=True)
class SharedStorage:
    """A place for artefacts beyond this host."""

    url: str

    @classmethod
    def of_environment(cls) -> "SharedStorage | None":
        """What PERSONA_ASSETS_SHARED names, if anything."""
        url = os.environ.get(VARIABLE)
        return cls(url) if url else None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """fsspec's file system, and the folder in it."""
        import fsspec

        with self._explained("opened"):
            # A listing that is kept would hide what another host has written since.
            system, folder = fsspec.url_to_fs(self.url, use_listings_cache=False)
        return system, folder.rstrip("/")

    def has(self, asset: str, fingerprint: str) -> bool:
        """Whether a finished artefact is there.

        Raises:
            SharedStorageError: nobody can say.
        """
        system, _ = self._place
        with self._explained("asked"):
            return bool(system.exists(self._record(asset, fingerprint)))

    def give(self, asset: str, fingerprint: str, content: Path, record: Path) -> None:
        """Copies an artefact there, unless it is there.

        Raises:
            SharedStorageError: it could not be copied; what is on this host stays.
        """
        if self.has(asset, fingerprint):
            return
        folder = self._content(asset, json.loads(record.read_bytes())["sha256"])
        files = sorted(content.iterdir()) if content.is_dir() else [content]
        with self._explained("written to"):
            for file in files:
                # A folder's own name tells it from a file.
                inside = f"{content.name}/{file.name}" if content.is_dir() else file.name
                self._put(file, f"{folder}/{inside}", asset)
            self._put(record, self._record(asset, fingerprint), asset)

    def _put(self, file: Path, target: str, asset: str) -> None:
        """Written beside and renamed: a folder would show a third host half a file that two write at once."""
        system, root = self._place
        partial = f"{root}/{asset}/{uuid.uuid4().hex}.partial"
        system.makedirs(target.rpartition("/")[0], exist_ok=True)
        system.put_file(str(file), partial)
        system.mv(partial, target)

    def fetch(self, asset: str, fingerprint: str, into: Path) -> bool:
        """Copies an artefact from there into a store's folder of the asset, its record last; whether there was one.

        Raises:
            SharedStorageError: it cannot be reached, or what is there is not what its record says.
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
                    f"{self.url}: {asset}/{fingerprint}: the content's SHA-256 is not the recorded one; "
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
        """Content and SHA-256 that a record names; names that lead out of the folder are refused."""
        try:
            record = json.loads(written)
            name, sha256 = str(record["content"]), str(record["sha256"])
        except (ValueError, KeyError, TypeError) as error:
            raise SharedStorageError(
                f"{self.url}: {asset}/{fingerprint}.json is no artefact's record ({error!r}); delete it and run again"
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
        """Every library behind fsspec has errors of its own."""
        try:
            yield
        except Exception as error:
            said = f"{VARIABLE}: {self.url} cannot be {what}: {type(error).__name__}: {error}"
            raise SharedStorageError(redact(said)) from None
