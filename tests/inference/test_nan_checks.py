"""Tests of the diagnosis of NaN and infinity by layer, position and token."""

from pathlib import Path

import pytest
import torch

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, choose_hardware, load_model, where_not_finite
from persona_assets.study.settings import Inference

IDS = [1, 50, 60, 70, 80]


@pytest.fixture
def loaded(tiny_directory: Path) -> LoadedModel:
    return load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))


def test_nan_in_an_embedding_is_reported_there_not_in_later_layers(loaded: LoadedModel) -> None:
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[70, 3] = float("nan")
    text = loaded.chat.tokenizer.decode([70])
    assert (
        where_not_finite(loaded, IDS)
        == f"first non-finite output in the token embeddings, at position 3 of 5, token 70 ({text!r})"
    )


def test_an_overflowing_block_is_named(loaded: LoadedModel) -> None:
    def overflow(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[0, 2] = float("inf")
        return output

    loaded.model.get_decoder().layers[1].mlp.register_forward_hook(overflow)
    assert where_not_finite(loaded, IDS).startswith("first non-finite output in layer 1, at position 2 of 5, token 60 ")


def test_nan_in_the_head_is_reported_in_the_logits(loaded: LoadedModel) -> None:
    with torch.no_grad():
        loaded.model.lm_head.weight[9] = float("nan")
    assert where_not_finite(loaded, IDS).startswith(
        "first non-finite output in the logits, after finite layers, at position 0 of 5"
    )


def test_finite_outputs_are_reported_as_finite(loaded: LoadedModel) -> None:
    assert where_not_finite(loaded, IDS) == "a plain forward pass over the same tokens is finite"
