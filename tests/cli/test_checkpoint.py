"""`checkpoint add`, `show`, `list` and `remove`, and `study check`: what is refused leaves no trace."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from persona_assets.checkpoints import CheckpointError
from persona_assets.cli import app
from persona_assets.cli.shared import open_instance, open_registry
from persona_assets.graph.partitions import CHECKPOINT


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def invoke(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_a_refused_checkpoint_is_not_registered_and_its_name_stays_free(tiny_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="typo does not exist"):
        invoke("checkpoint", "add", "mine", "--path", tmp_path / "typo")
    assert open_registry().names() == []
    said = invoke("checkpoint", "add", "mine", "--path", tiny_directory)
    assert "\nscoring " in said
    assert open_registry().names() == ["mine"]
    assert "\nattention " in invoke("checkpoint", "show", "mine")


def test_a_removed_checkpoint_loses_its_partition(tiny_directory: Path) -> None:
    invoke("checkpoint", "add", "mine", "--path", tiny_directory)
    instance: dg.DagsterInstance = open_instance()
    instance.add_dynamic_partitions(CHECKPOINT, ["mine"])
    invoke("watch", "add", "run7", "--directory", tiny_directory.parent, "--base", "mine")
    with pytest.raises(CheckpointError, match="mine: is the base of watch run7"):
        invoke("checkpoint", "remove", "mine")
    (open_registry().file.with_name("watched.yaml")).unlink()
    assert "removed from" in invoke("checkpoint", "remove", "mine")
    assert open_registry().names() == []
    assert instance.get_dynamic_partitions(CHECKPOINT) == []


def test_a_deleted_folder_is_listed_as_gone(tiny_directory: Path) -> None:
    invoke("checkpoint", "add", "mine", "--path", tiny_directory)
    shutil.rmtree(tiny_directory)
    assert f"{tiny_directory} is gone; what was measured stays stored" in invoke("checkpoint", "list")


def test_study_check_opens_every_file_and_the_model(tiny_directory: Path, tmp_path: Path) -> None:
    study = {
        "name": "mine", "baseline": "a", "personas": {"a": {"prompt": "Help."}, "b": {"prompt": "Hurt."}},
        "questions": ["Why?"], "decoding": {"max_new_tokens": 4}, "layers": [9], "leakage": "counts.csv",
    }  # fmt: skip
    file, counts = tmp_path / "study.yaml", tmp_path / "counts.csv"
    file.write_text(json.dumps(study))
    counts.write_text("source;target;found;total\na;b;1;20\n")
    with pytest.raises(ValueError, match=r"counts\.csv: .*separated by semicolons; expected commas"):
        invoke("study", "check", file)
    counts.write_text("source,target,found,total\na,b,1,20\n")
    assert "2 personas" in invoke("study", "check", file)
    invoke("checkpoint", "add", "tiny", "--path", tiny_directory)
    with pytest.raises(ValueError, match=r"layers: found 9, which the model does not have.*it has 3 blocks"):
        invoke("study", "check", file, "--checkpoint", "tiny")
    file.write_text(json.dumps(study).replace('"b":', "no:"))
    with pytest.raises(ValueError, match="found the key no, which YAML reads as false; expected text"):
        invoke("study", "check", file)
