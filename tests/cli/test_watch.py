"""`watch add` says what the directory holds, so that a wrong folder or pattern is noticed at once."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from persona_assets.cli import app


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def added(name: str, *words: object) -> str:
    result = CliRunner().invoke(app, ["watch", "add", name, *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_a_directory_without_matches_is_added_with_a_word_of_what_it_holds(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    assert f"nothing to measure yet: watch typo: directory: {runs} does not exist" in added("typo", "--directory", runs)
    runs.mkdir()
    assert f"nothing to measure yet: {runs} contains no checkpoint-* added to" in added("new", "--directory", runs)
    (runs / "epoch_1").mkdir()
    assert "contains no checkpoint-* yet; found epoch_1; set the watch's pattern" in added("other", "--directory", runs)


def test_what_is_found_and_what_is_not_complete_is_counted(tmp_path: Path, tiny_directory: Path) -> None:
    for step in (1, 2):
        shutil.copytree(tiny_directory, tmp_path / "runs" / f"checkpoint-{step}")
    (tmp_path / "runs" / "checkpoint-2" / "config.json").unlink()
    said = added("run7", "--directory", tmp_path / "runs")
    assert "complete checkpoints found: 1 of 2; run7.checkpoint-2: " in said
    assert "config.json does not exist" in said


def test_a_branch_is_added_without_asking_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("persona_assets.checkpoints.hub.new_commits", lambda *_: pytest.fail("the hub was asked"))
    assert added("nightly", "--hub", "lab/model").startswith("added to")
