"""Watches are stored in a file edited by users, like the registry, and extended by the command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persona_assets.checkpoints import CheckpointError
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.watched import Watch, Watched
from persona_assets.cli import app
from tests.local_hub import LocalHub

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
WRITTEN = """\
# ours

run7: {directory: runs/7, base: qwen}   # relative to this file
nightly:
  hub: lab/model
other: {hub: lab/model, branch: runs/8}
"""


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "watched.yaml")


def test_watches_are_read_in_file_order(watched: Watched) -> None:
    watched.file.write_text(WRITTEN)
    assert watched.all() == [
        Watch(name="run7", directory=watched.file.parent / "runs/7", base="qwen"),
        Watch(name="nightly", hub="lab/model", branch="main"),
        Watch(name="other", hub="lab/model", branch="runs/8"),
    ]


def test_a_missing_file_has_no_watches(watched: Watched) -> None:
    assert watched.all() == []


def test_appending_keeps_the_existing_text(watched: Watched) -> None:
    watched.file.write_text(WRITTEN)
    added = watched.add("run9", {"directory": "/data/run-9"})
    assert added == Watch(name="run9", directory=Path("/data/run-9"))
    assert watched.file.read_text().startswith(WRITTEN)
    assert watched.all()[-1] == added


def test_the_default_branch_may_be_given_explicitly(watched: Watched) -> None:
    watched.file.write_text(WRITTEN)
    watched.add("nightly", {"hub": "lab/model", "branch": "main"})
    assert watched.file.read_text() == WRITTEN


def test_a_different_location_under_an_existing_name_is_rejected(watched: Watched) -> None:
    watched.file.write_text(WRITTEN)
    with pytest.raises(CheckpointError, match=r"watched\.yaml: run7 already exists.*expected another name"):
        watched.add("run7", {"directory": "/elsewhere"})


def test_a_home_folder_is_expanded(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert watched.add("mine", {"directory": "~/runs"}).directory == Path("/home/someone/runs")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{base: qwen}", "new: found neither of directory and hub; expected exactly one of them"),
        ("{directory: /d, hub: a/b}", "new: found both of directory and hub; expected exactly one of them"),
        ("{directory: /d, branch: main}", "new: branch: found 'main' without hub; expected it only with a hub"),
        ("{directory: /d, base: Qwen}", "new: base: 'Qwen' is not a name; expected lower-case"),
        ("{directory: /d, step: 5}", "new: step: unknown field, found 5"),
        ("{directory: [1]}", "new: directory: found [1]"),
        ("/data/run-7", "new: found '/data/run-7'"),
        ("", "new: found None"),
    ],
)
def test_an_invalid_entry_is_reported(watched: Watched, entry: str, expected: str) -> None:
    watched.file.write_text(f"new: {entry}\n")
    with pytest.raises(CheckpointError) as caught:
        watched.all()
    assert f"{watched.file}: {expected}" in str(caught.value)


def test_an_invalid_name_is_rejected_before_anything_is_written(watched: Watched) -> None:
    with pytest.raises(CheckpointError, match=r"watched\.yaml: 'Run 7' is not a name"):
        watched.add("Run 7", {"directory": "/d"})
    assert not watched.file.exists()


@pytest.mark.parametrize("content", ["- run7\n", "7\n"])
def test_a_file_that_is_not_a_mapping_is_rejected(watched: Watched, content: str) -> None:
    watched.file.write_text(content)
    expected = r"watched\.yaml: found (list|int); expected a mapping of watches by name"
    with pytest.raises(CheckpointError, match=expected):
        watched.all()


def command(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DAGSTER_HOME": str(home)}
    line = [sys.executable, "-m", "persona_assets.cli", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_lists_registered_complete_and_incomplete_checkpoints(tiny_directory: Path, tmp_path: Path) -> None:
    home, run = tmp_path / "home", tmp_path / "run-7"
    run.mkdir()
    for name in ("checkpoint-10", "checkpoint-20"):
        (run / name).symlink_to(tiny_directory, target_is_directory=True)
    (run / "checkpoint-30").mkdir()
    added = command(home, "watch", "add", "run7", "--directory", str(run))
    assert added.returncode == 0, added.stderr
    Registry(home / "checkpoints.yaml").add("run7.checkpoint-10", {"path": str(run / "checkpoint-10")})
    heading, *lines = command(home, "watch", "list").stdout.splitlines()
    assert heading == f"run7: {run}"
    assert [line.split(maxsplit=1) for line in lines[:2]] == [
        ["run7.checkpoint-10", "registered"],
        ["run7.checkpoint-20", "complete"],
    ]
    assert lines[2].split(maxsplit=1)[1].startswith("waiting: run7.checkpoint-30: ")


def test_a_watch_that_cannot_be_scanned_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "watched.yaml").write_text("gone: {directory: absent}\nempty: {directory: .}\n")
    listed = command(tmp_path, "watch", "list")
    assert listed.returncode == 0
    assert f"gone: {tmp_path}/absent\n  cannot be read: watch gone: directory: " in listed.stdout
    assert f"empty: {tmp_path}\n" in listed.stdout


def test_the_command_lists_new_commits_of_a_branch(tmp_path: Path) -> None:
    files = dict.fromkeys(("config.json", "tokenizer.json", "model.safetensors"), b"{}")
    with LocalHub() as hub:
        first, second = hub.commit("lab/model", files, "first"), hub.commit("lab/model", files, "second")
        (tmp_path / "watched.yaml").write_text("nightly: {hub: lab/model}\n")
        entry = {"hub": "lab/model", "revision": first, "series": "nightly"}
        Registry(tmp_path / "checkpoints.yaml").add(f"nightly.{first[:12]}", entry)
        listed = hub.run("from persona_assets.cli import app; app(['watch', 'list'])", home=tmp_path)
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["nightly:", "lab/model,", "branch", "main"],
        [f"nightly.{first[:12]}", "registered"],
        [f"nightly.{second[:12]}", "complete"],
    ]


def test_the_command_rejects_a_base_that_is_not_registered(tmp_path: Path) -> None:
    refused = command(tmp_path, "watch", "add", "run7", "--directory", "/d", "--base", "absent")
    assert refused.returncode == 1
    assert "no checkpoint 'absent'; found []; add it with `persona-assets checkpoint add`" in refused.stderr
    assert not (tmp_path / "watched.yaml").exists()


@pytest.mark.parametrize(
    ("options", "step", "series"),
    [([], 40, None), (["--step", "7", "--series", "run7"], 7, "run7"), (["--step", "0"], 0, None)],
)
def test_a_checkpoint_is_added_with_its_training_step(
    tiny_directory: Path, tmp_path: Path, options: list[str], step: int, series: str | None
) -> None:
    directory = tiny_directory.rename(tmp_path / "checkpoint-40")
    line = ["checkpoint", "add", "mine", "--path", str(directory), *options]
    added = CliRunner().invoke(app, line, env={"DAGSTER_HOME": str(tmp_path)})
    assert added.exit_code == 0, added.output
    registered = Registry(tmp_path / "checkpoints.yaml").get("mine")
    assert (registered.step, registered.series) == (step, series)
