"""`doctor --self-test` passes on this machine, and each trial detects the error it is meant to detect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from persona_assets.checkpoints import Checkpoint
from persona_assets.cli import app
from persona_assets.inference import LoadedModel, choose_hardware, load_model
from persona_assets.study.settings import Inference
from persona_assets.upkeep import self_test
from persona_assets.upkeep.self_test import trials


def test_the_command_passes(embedded_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").symlink_to(embedded_directory.parent)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    done = CliRunner().invoke(app, ["doctor", "--self-test"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert [line[:8].strip() for line in lines[-5:-1]] == ["ok"] * 4
    assert lines[-1].endswith("4 of 4 passed")


def wrong_token(generate: Any) -> Callable[..., Any]:
    def wrong(*arguments: Any) -> Any:
        first, *others = generate(*arguments)
        ids = [*first.token_ids[:-1], first.token_ids[-1] + 1]
        return [type(first)(**vars(first) | {"token_ids": ids}), *others]

    return wrong


def small_error(divergence: Any) -> Callable[..., Any]:
    return lambda *arguments: tuple(each + 2e-6 for each in divergence(*arguments))


def noise(divergence: Any) -> Callable[..., Any]:
    def noisy(*arguments: Any) -> Any:
        found = divergence(*arguments)
        found.token_js[...] += torch.rand(1).numpy() * 1e-7
        return found

    return noisy


def lower_log_prob(log_prob: Any) -> Callable[..., Any]:
    return lambda *arguments: log_prob(*arguments) - 0.5


@pytest.mark.parametrize(
    ("name", "part", "broken"),
    [
        ("greedy tokens", "TransformersGenerator.generate", wrong_token),
        ("JS against float64", "pairwise_divergence", small_error),
        ("the same bits twice", "divergence_of_response", noise),
        ("adapter merged and not", "label_log_prob", lower_log_prob),
    ],
)
def test_a_trial_detects_its_error(
    name: str, part: str, broken: Any, tiny_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(name="tiny", path=tiny_directory)
    loaded: LoadedModel = load_model(checkpoint, choose_hardware(Inference(device="cpu")))
    monkeypatch.setattr(self_test, "GAIN", -1.0)  # a random model learns little in a few steps
    trial = trials(checkpoint, loaded, loaded)[name]
    ok, what = trial()
    assert ok, what
    place, _, attribute = f"persona_assets.upkeep.self_test.{part}".rpartition(".")
    owner = self_test if place.endswith("self_test") else self_test.TransformersGenerator
    monkeypatch.setattr(owner, attribute, broken(getattr(owner, attribute)))
    ok, what = trial()
    assert not ok, what
