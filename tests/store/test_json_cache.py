"""The cache returns what was written, and a missing or invalid file counts as empty."""

from pathlib import Path

import pytest

from persona_assets.store.json_cache import JsonCache


def test_content_comes_back_and_unchanged_content_is_not_rewritten(tmp_path: Path) -> None:
    cache = JsonCache(tmp_path / "measured.json")
    assert cache.read() == {}
    cache.write({"one": ["stamp", "study"]})
    assert cache.read() == {"one": ["stamp", "study"]}
    before = cache.file.stat()
    cache.write({"one": ["stamp", "study"]})
    assert cache.file.stat().st_ino == before.st_ino
    cache.write({})
    assert cache.read() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"null"])
def test_an_invalid_file_is_an_empty_cache(tmp_path: Path, content: bytes) -> None:
    cache = JsonCache(tmp_path / "measured.json")
    cache.file.write_bytes(content)
    assert cache.read() == {}
    cache.write({"one": 1})
    assert cache.read() == {"one": 1}
