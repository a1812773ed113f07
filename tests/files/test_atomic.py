"""Atomic writes leave the old content or the new, whatever happens to the writer."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_assets.files.atomic import atomic_write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_midway(target: Path, write: Callable[[Path], object]) -> None:
    with atomic_write(target) as partial:
        write(partial)
        raise RuntimeError("midway")


def test_target_appears_only_after_the_block_succeeds(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with atomic_write(target) as partial:
        partial.write_text("new")
        assert not target.exists()
        written = partial.stat().st_ino
    assert target.read_text() == "new"
    assert target.stat().st_ino == written  # renamed, not copied
    assert names(target.parent) == ["file"]


def test_an_error_keeps_the_old_file_and_removes_the_partial_one(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(target, lambda partial: partial.write_text("ne"))
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_error_keeps_the_old_folder_and_removes_the_partial_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").write_text("old")
    with pytest.raises(RuntimeError, match="midway"):
        fail_midway(target, lambda partial: (partial.mkdir(), (partial / "new").write_text("ne")))
    assert names(tmp_path) == ["folder"]
    assert names(target) == ["old"]


def test_a_folder_replaces_an_existing_folder_completely(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_write(target) as partial:
            (partial / "below").mkdir(parents=True)
            (partial / "below" / name).write_text(name)
    assert names(tmp_path) == ["folder"]
    assert names(target / "below") == ["new"]


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(target):
        pass
    assert target.read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_killed_writer_keeps_the_old_content(tmp_path: Path, repository: Path, kind: str) -> None:
    target = tmp_path / "target"
    write = "path.write_text" if kind == "file" else "(path.mkdir(exist_ok=True), (path / 'content').write_text)[1]"
    program = f"""
from pathlib import Path
from persona_assets.files.atomic import atomic_write
target = Path({str(target)!r})
with atomic_write(target) as path:
    {write}("old")
with atomic_write(target) as path:
    {write}("ne")
    print("inside", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=repository, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        process.kill()
        assert process.wait() == -9
    assert (target if kind == "file" else target / "content").read_text() == "old"
