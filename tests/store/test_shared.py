"""Hosts with shared storage find each other's artefacts, and damaged or foreign content is never used."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from persona_assets.store.artefacts import ArtefactStore
from persona_assets.store.shared import SharedStorage, SharedStorageError
from tests.s3_server import s3
from tests.store.test_artefacts import MADE_FROM, VALUES, dataset, files, table

every_kind = pytest.mark.parametrize("value", VALUES)


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield f"file://{tmp_path}/shared"
        return
    with s3() as address:
        yield address


@pytest.fixture
def host(url: str, tmp_path: Path) -> Callable[[str], ArtefactStore]:
    return lambda name: ArtefactStore(tmp_path / name / "artefacts", SharedStorage(url))


def everything(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


def on(url: str) -> list[str]:
    system, folder = fsspec.url_to_fs(url, use_listings_cache=False)
    return sorted(name.removeprefix(folder + "/") for name in system.find(folder))


@every_kind
def test_an_artefact_of_one_host_is_found_by_another(
    host: Callable[[str], ArtefactStore], value: Callable[[], Any], url: str
) -> None:
    one, other = host("one"), host("other")
    put = one.put("centroids", MADE_FROM, value(), {"tokens": 7})
    assert not everything(other.root)
    assert other.has("centroids", put.fingerprint)
    found = other.find("centroids", MADE_FROM)
    assert found is not None
    assert found.intact()
    assert (found.sha256, found.measured) == (put.sha256, {"tokens": 7})
    assert everything(other.root) == everything(one.root)
    assert not [name for name in on(url) if name.endswith(".partial")]
    assert host("third").get("centroids", put.fingerprint).sha256 == put.sha256


def test_an_artefact_that_no_host_computed_is_not_found(host: Callable[[str], ArtefactStore]) -> None:
    host("one").put("centroids", MADE_FROM, table(), {})
    assert host("other").find("centroids", {**MADE_FROM, "layers": [1]}) is None
    assert host("other").find("generations", MADE_FROM) is None
    assert not host("other").has("centroids", "0" * 64)


def test_unreachable_storage_loses_no_results(
    host: Callable[[str], ArtefactStore], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreachable(self: SharedStorage, *_: object) -> bool:
        raise SharedStorageError("no way there")

    one = host("one")
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(SharedStorage, "has", unreachable)
        put = one.put("centroids", MADE_FROM, files(), {})
        assert "is on this host only: no way there" in caplog.text
        assert one.find("centroids", MADE_FROM) is not None
        with pytest.raises(SharedStorageError):  # rather than a cache miss, which would start a long computation
            host("other").find("centroids", MADE_FROM)
    assert not host("other").has("centroids", put.fingerprint)
    assert one.find("centroids", MADE_FROM) is not None  # finding it copies it
    assert host("other").has("centroids", put.fingerprint)


def test_an_invalid_url_is_reported_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_ASSETS_SHARED", "nowhere://me:secret@host/folder")
    shared = SharedStorage.of_environment()
    assert shared is not None
    with pytest.raises(SharedStorageError, match=r"PERSONA_ASSETS_SHARED: nowhere://.*cannot be opened") as error:
        ArtefactStore(tmp_path, shared).find("centroids", MADE_FROM)
    assert "secret" not in str(error.value)
    monkeypatch.setenv("PERSONA_ASSETS_SHARED", "")
    assert SharedStorage.of_environment() is None


@every_kind
def test_a_damaged_local_artefact_is_fetched_again(
    host: Callable[[str], ArtefactStore], value: Callable[[], Any]
) -> None:
    store = host("one")
    path = store.put("centroids", MADE_FROM, value(), {}).path
    before = everything(store.root)
    damaged = next(path.iterdir()) if path.is_dir() else path
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found = store.find("centroids", MADE_FROM)
    assert found is not None
    assert found.intact()
    after = everything(store.root)
    assert before.items() <= after.items()
    assert any(".damaged" in name for name in after)


def test_a_damaged_shared_artefact_is_an_error_and_is_not_copied(
    host: Callable[[str], ArtefactStore], url: str
) -> None:
    host("one").put("centroids", MADE_FROM, dataset(), {})
    (content,) = [name for name in on(url) if not name.endswith(".json")]
    system, folder = fsspec.url_to_fs(url)
    system.pipe_file(f"{folder}/{content}", system.cat_file(f"{folder}/{content}")[:-1])
    with pytest.raises(SharedStorageError, match=r"SHA-256 differs from the recorded one; delete .*json and run again"):
        host("other").find("centroids", MADE_FROM)
    assert not everything(host("other").root)


def test_two_hosts_that_compute_the_same_artefact_leave_one_intact_copy(
    host: Callable[[str], ArtefactStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two versions differ, as results of a GPU may differ in their last bits."""
    one, two = host("one"), host("two")
    has = SharedStorage.has
    monkeypatch.setattr(SharedStorage, "has", lambda *_: False)  # neither sees the other
    monkeypatch.setattr(SharedStorage, "fetch", lambda *_: False)
    first, second = (store.put("a", MADE_FROM, {"by": name}, {}) for store, name in ((one, "one"), (two, "two")))
    monkeypatch.undo()
    assert SharedStorage.has is has
    found = host("third").find("a", MADE_FROM)
    assert found is not None
    assert found.read() in ({"by": "one"}, {"by": "two"})
    assert found.sha256 in (first.sha256, second.sha256)
    assert one.get("a", first.fingerprint).read() == {"by": "one"}


def test_a_host_that_dies_during_upload_leaves_only_a_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uses a folder, where unfinished files are visible; object storage shows complete files only."""
    url = f"file://{tmp_path}/shared"
    one, other = (ArtefactStore(tmp_path / name / "artefacts", SharedStorage(url)) for name in ("one", "other"))
    system = fsspec.url_to_fs(url)[0]

    def dies(self: object, local: str, target: str) -> None:
        Path(target).write_bytes(Path(local).read_bytes()[:10])
        raise ConnectionError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "put_file", dies)
        put = one.put("centroids", MADE_FROM, files(), {})
    (left,) = on(url)
    assert left.endswith(".partial")
    assert not other.has("centroids", put.fingerprint)
    assert other.put("centroids", MADE_FROM, files(), {}).sha256 == put.sha256
    third = ArtefactStore(tmp_path / "third" / "artefacts", SharedStorage(url))
    assert third.get("centroids", put.fingerprint).intact()


@pytest.mark.parametrize("name", ["../../../stolen", "/etc/passwd", "other.nc", 7])
def test_a_record_cannot_name_other_content(host: Callable[[str], ArtefactStore], url: str, name: object) -> None:
    host("one").put("centroids", MADE_FROM, files(), {})
    (record,) = [each for each in on(url) if each.endswith(".json") and "/" not in each.partition("/")[2]]
    system, folder = fsspec.url_to_fs(url)
    changed = json.loads(system.cat_file(f"{folder}/{record}")) | {"content": name}
    system.pipe_file(f"{folder}/{record}", json.dumps(changed).encode())
    with pytest.raises(SharedStorageError, match=r"content: found .*; expected a name that begins with"):
        host("other").find("centroids", MADE_FROM)
    system.pipe_file(f"{folder}/{record}", b"{}")
    with pytest.raises(SharedStorageError, match="is not an artefact record"):
        host("other").find("centroids", MADE_FROM)


def test_a_pruned_artefact_is_fetched_again(host: Callable[[str], ArtefactStore]) -> None:
    store = host("one")
    put = store.put("centroids", MADE_FROM, table(), {})
    assert store.prune(put) > 0
    assert store.is_pruned("centroids", put.fingerprint)
    found = store.find("centroids", MADE_FROM)
    assert found is not None
    assert found.intact()
    assert not store.is_pruned("centroids", put.fingerprint)


def test_a_store_without_shared_storage_never_calls_fsspec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsspec, "url_to_fs", None)
    store = ArtefactStore(tmp_path)
    assert store.find("centroids", MADE_FROM) is None
    put = store.put("centroids", MADE_FROM, table(), {})
    assert store.has("centroids", put.fingerprint)
    shutil.rmtree(tmp_path / "centroids")
    assert not store.has("centroids", put.fingerprint)
