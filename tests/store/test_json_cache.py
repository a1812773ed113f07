"""What is remembered to save work comes back, and whatever becomes of the file nothing fails."""

from pathlib import Path

import pytest

from persona_assets.store.json_cache import JsonCache


def test_what_was_written_comes_back_and_an_equal_content_is_not_written_again(tmp_path: Path) -> None:
    memory = JsonCache(tmp_path / "measured.json")
    assert memory.read() == {}
    memory.write({"one": ["stamp", "study"]})
    assert memory.read() == {"one": ["stamp", "study"]}
    before = memory.file.stat()
    memory.write({"one": ["stamp", "study"]})
    assert memory.file.stat().st_ino == before.st_ino
    memory.write({})
    assert memory.read() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"null"])
def test_a_file_that_holds_something_else_is_an_empty_memory(tmp_path: Path, content: bytes) -> None:
    memory = JsonCache(tmp_path / "measured.json")
    memory.file.write_bytes(content)
    assert memory.read() == {}
    memory.write({"one": 1})
    assert memory.read() == {"one": 1}
