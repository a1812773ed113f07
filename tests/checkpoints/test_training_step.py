"""The training step comes from the trainer, or else from the folder's name."""

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
def test_the_name_says_the_step(tmp_path: Path, name: str, expected: int | None) -> None:
    assert training_step(folder(tmp_path, name)) == expected


def test_the_trainer_is_believed_before_the_name(tmp_path: Path) -> None:
    assert training_step(folder(tmp_path, "checkpoint-500", json.dumps({"global_step": 750, "epoch": 1.5}))) == 750
    assert training_step(folder(tmp_path, "best", json.dumps({"global_step": 0}))) == 0


@pytest.mark.parametrize(
    "state", ["", '{"global_', "[750]", "{}", '{"global_step": "750"}', '{"global_step": -1}', '{"global_step": true}']
)
def test_what_the_trainer_did_not_finish_is_not_believed(tmp_path: Path, state: str) -> None:
    assert training_step(folder(tmp_path, "checkpoint-500", state)) == 500


def test_a_folder_that_is_not_there_still_has_a_name(tmp_path: Path) -> None:
    assert training_step(tmp_path / "checkpoint-7") == 7
