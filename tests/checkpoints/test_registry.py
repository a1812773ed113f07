"""The registry is edited by users: it is validated strictly, and appending keeps the existing text."""

import subprocess
import sys
from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.checkpoints.registry import Registry

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
WRITTEN = f"""\
# ours, do not reorder

qwen:   # the base
  hub: Qwen/Qwen2.5-7B-Instruct
  revision: {COMMIT}
villain-500: {{path: runs/7/base, adapter: /data/run-7/checkpoint-500}}  # Friday's
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "checkpoints.yaml")


@pytest.fixture
def written(registry: Registry) -> Registry:
    registry.file.write_text(WRITTEN)
    return registry


def test_entries_are_listed_in_file_order(written: Registry) -> None:
    assert written.names() == ["qwen", "villain-500"]
    assert written.get("qwen") == Checkpoint(name="qwen", hub="Qwen/Qwen2.5-7B-Instruct", revision=COMMIT)


def test_paths_are_relative_to_the_registrys_folder(written: Registry) -> None:
    found = written.get("villain-500")
    assert found.path == written.file.parent / "runs/7/base"
    assert found.adapter == Path("/data/run-7/checkpoint-500")


def test_a_home_folder_is_expanded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert registry.add("mine", {"path": "~/models/mine"}).path == Path("/home/someone/models/mine")


def test_a_missing_registry_is_empty(registry: Registry) -> None:
    assert registry.names() == []
    assert registry.all() == []


def test_all_checkpoints_are_returned_in_file_order(written: Registry) -> None:
    assert written.all() == [written.get("qwen"), written.get("villain-500")]


def test_series_and_step_are_stored(registry: Registry) -> None:
    added = registry.add("run7.checkpoint-500", {"path": "/m", "series": "run7", "step": 500})
    assert registry.get("run7.checkpoint-500") == added
    assert (added.series, added.step) == ("run7", 500)


def test_concurrent_writers_lose_no_entries(registry: Registry) -> None:
    """A sensor may register a checkpoint while a user adds another."""
    script = (
        "import sys; from pathlib import Path; from persona_assets.checkpoints.registry import Registry\n"
        "for number in range(20): Registry(Path(sys.argv[1])).add(f'{sys.argv[2]}-{number}', {'path': '/m'})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(registry.file), name]) for name in ("a", "b")]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    assert sorted(registry.names()) == sorted(f"{name}-{number}" for name in "ab" for number in range(20))


def test_added_entries_can_be_read(registry: Registry) -> None:
    added = registry.add("first", {"path": "models/first"})
    registry.add("second", {"hub": "someone/second", "revision": COMMIT})
    assert registry.names() == ["first", "second"]
    assert registry.get("first") == added == Checkpoint(name="first", path=registry.file.parent / "models/first")


@pytest.mark.parametrize("ending", ["", "\n", "\n# the end"])
def test_appending_keeps_the_existing_text(registry: Registry, ending: str) -> None:
    before = WRITTEN.rstrip("\n") + ending
    registry.file.write_text(before)
    registry.add("new", {"path": "/models/new"})
    assert registry.file.read_text().startswith(before)
    assert registry.names() == ["qwen", "villain-500", "new"]


@pytest.mark.parametrize("before", ["{}\n", "{old: {path: /models/old}}\n", "  old:\n    path: /models/old\n"])
def test_a_file_that_cannot_be_appended_to_is_not_changed(registry: Registry, before: str) -> None:
    registry.file.write_text(before)
    with pytest.raises(CheckpointError, match=r"checkpoints\.yaml: new cannot be appended; expected"):
        registry.add("new", {"path": "/models/new"})
    assert registry.file.read_text() == before


def test_adding_the_same_entry_again_changes_nothing(written: Registry) -> None:
    written.add("villain-500", {"path": "runs/7/base", "adapter": "/data/run-7/checkpoint-500"})
    assert written.file.read_text() == WRITTEN


def test_a_different_entry_under_an_existing_name_is_rejected(written: Registry) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoints\.yaml: qwen already exists.*expected another name"):
        written.add("qwen", {"path": "/models/other"})
    assert written.file.read_text() == WRITTEN


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{hub: a/b, revision: main}", "new: revision: found 'main'; expected a commit (40 hex digits)"),
        ("{hub: a/b}", "new: revision: found None; expected a commit"),
        (f"{{path: /m, hub: a/b, revision: {COMMIT}}}", "new: expected exactly one of path, hub with revision"),
        (f"{{path: /m, revision: {COMMIT}}}", "new: expected exactly one of path, hub with revision"),
        ("{adapter: /a}", "new: expected exactly one of path, hub with revision"),
        ("{path: /m, lora: /a}", "new: lora: unknown field, found '/a'"),
        ("{path: [1]}", "new: path: found [1]"),
        ("{path: /m, step: -1}", "new: step: found -1"),
        ("{path: /m, step: '500'}", "new: step: found '500'"),
        ("{path: /m, step: 0.5}", "new: step: found 0.5"),
        ("{path: /m, series: Run 7}", "new: series: 'Run 7' is not a name; expected lower-case"),
        ("/models/new", "new: found '/models/new'"),
        ("", "new: found None"),
    ],
)
def test_an_invalid_entry_is_reported(registry: Registry, entry: str, expected: str) -> None:
    registry.file.write_text(f"new: {entry}\n")
    with pytest.raises(CheckpointError) as caught:
        registry.get("new")
    assert f"{registry.file}: {expected}" in str(caught.value)


@pytest.mark.parametrize("name", ["Qwen", "../up", "a b", ""])
def test_an_invalid_name_is_rejected_before_anything_is_written(registry: Registry, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoints\.yaml: .* is not a name; expected lower-case"):
        registry.add(name, {"path": "/m"})
    assert not registry.file.exists()


def test_an_invalid_entry_is_not_written(written: Registry) -> None:
    with pytest.raises(CheckpointError, match="revision: found 'main'"):
        written.add("new", {"hub": "a/b", "revision": "main"})
    assert written.file.read_text() == WRITTEN


def test_the_error_for_an_unknown_name_lists_the_known_ones(written: Registry) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint 'llama'; found \['qwen', 'villain-500'\]; add it with"):
        written.get("llama")


def test_a_repeated_name_is_rejected(written: Registry) -> None:
    written.file.write_text(WRITTEN + "qwen: {path: /other}\n")
    with pytest.raises(CheckpointError, match=r"checkpoints\.yaml: line 7, column 1: duplicate key 'qwen'"):
        written.names()


def test_a_file_that_is_not_a_mapping_is_rejected(registry: Registry) -> None:
    registry.file.write_text("- qwen\n")
    expected = r"checkpoints\.yaml: found list; expected a mapping of checkpoints by name"
    with pytest.raises(CheckpointError, match=expected):
        registry.names()


def test_removing_an_entry_keeps_the_rest_of_the_file(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "checkpoints.yaml")
    registry.file.write_text(
        "# mine\nfirst:\n  path: /models/first\n\n# about the second\nsecond: {path: /models/second}\n"
        "third:\n  path: /models/third  # kept\n"
    )
    registry.remove("second")
    assert registry.file.read_text() == (
        "# mine\nfirst:\n  path: /models/first\n\n# about the second\nthird:\n  path: /models/third  # kept\n"
    )
    registry.remove("first")
    assert registry.names() == ["third"]
    with pytest.raises(CheckpointError, match="no checkpoint 'first'"):
        registry.remove("first")


def test_a_removed_checkpoint_is_remembered_until_it_is_added_again(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "checkpoints.yaml")
    registry.add_all({"one": {"path": "/models/one"}, "two": {"path": "/models/two"}})
    registry.remove("one")
    assert registry.removed() == {"one": {"path": "/models/one"}}
    registry.add("one", {"path": "/elsewhere"})
    assert registry.removed() == {}
    assert registry.names() == ["two", "one"]
