"""The training step is read from trainer_state.json, or else from the folder's name."""

import json
from pathlib import Path

import pytest

from persona_assets.checkpoints.training_step import training_step


def folder(place: Path, name: str, state: str | None = None) -> Path:
    directory = place / name
    directory.mkdir()
    if state is not None:
        (directory / "trainer_state.json").write_text(state)
    return directory


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("checkpoint-500", 500),
        ("checkpoint-0", 0),
        ("checkpoint-00012", 12),
        ("checkpoint-final", None),
        ("checkpoint-500-merged", None),
        ("my-checkpoint-500", None),
        ("qwen2.5-7b", None),
    ],
)
def test_the_step_is_read_from_the_name(tmp_path: Path, name: str, expected: int | None) -> None:
    assert training_step(folder(tmp_path, name)) == expected


def test_the_trainer_state_overrides_the_name(tmp_path: Path) -> None:
    assert training_step(folder(tmp_path, "checkpoint-500", json.dumps({"global_step": 750, "epoch": 1.5}))) == 750
    assert training_step(folder(tmp_path, "best", json.dumps({"global_step": 0}))) == 0


@pytest.mark.parametrize(
    "state", ["", '{"global_', "[750]", "{}", '{"global_step": "750"}', '{"global_step": -1}', '{"global_step": true}']
)
def test_an_invalid_trainer_state_is_ignored(tmp_path: Path, state: str) -> None:
    assert training_step(folder(tmp_path, "checkpoint-500", state)) == 500


def test_a_missing_folder_still_has_a_name(tmp_path: Path) -> None:
    assert training_step(tmp_path / "checkpoint-7") == 7
