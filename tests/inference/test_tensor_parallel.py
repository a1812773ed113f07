"""One model over several cards: what can be said without any, and what becomes of a model that is spread."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from persona_assets.checkpoint import Checkpoint
from persona_assets.inference import PrefixScorer, Scored, last_token_states
from persona_assets.inference.choosing import why_not_packed
from persona_assets.inference.loading import LoadedModel, choose_hardware, load_model
from persona_assets.inference.vllm_settings import Room, VllmSettings, require_divisible
from persona_assets.orchestration.partitions import STUDY
from persona_assets.orchestration.provenance import HEAVY, LIGHT, code_version
from persona_assets.settings import Inference
from persona_assets.study import StudyError

CPU = choose_hardware(Inference(device="cpu"))
TWO = replace(CPU, device="cuda", tensor_parallel=2)


def test_more_cards_than_there_are_is_an_error_of_the_study() -> None:
    expected = "inference.tensor_parallel: found 2, but the model runs on the CPU; expected at most 1"
    with pytest.raises(StudyError, match=re.escape(expected)):
        choose_hardware(Inference(device="cpu", tensor_parallel=2))


def test_one_card_has_the_digests_that_it_always_had() -> None:
    assert "tensor_parallel" not in CPU.environment()
    assert TWO.environment()["tensor_parallel"] == "2"
    spread = STUDY.model_copy(update={"inference": Inference(tensor_parallel=2)})
    assert "tensor_parallel" not in LIGHT["report"](STUDY)["inference"]
    assert LIGHT["report"](spread)["inference"]["tensor_parallel"] == 2
    for asset in HEAVY:
        assert code_version(spread, asset) != code_version(STUDY, asset)


def test_vllm_is_told_and_heads_that_cannot_be_shared_out_are_refused(tmp_path: Path) -> None:
    settings = VllmSettings(tmp_path, TWO, room=Room(0.5, 1 << 30))
    assert settings.for_worker()["engine"]["tensor_parallel_size"] == 2
    assert "tensor_parallel_size" not in replace(settings, hardware=CPU).for_worker()["engine"]
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 28}))
    require_divisible(tmp_path, TWO)
    with pytest.raises(StudyError, match=r"found 3, but .* has 28 attention heads; expected a number that divides 28"):
        require_divisible(tmp_path, replace(TWO, tensor_parallel=3))


def test_a_spread_model_scores_the_same(tiny_directory: Path, tmp_path: Path) -> None:
    """Two places of one machine stand for two cards: the CPU and the disk, and accelerate moves between them."""
    from transformers import AutoModelForCausalLM

    whole = load_model(Checkpoint(name="tiny", path=tiny_directory), CPU)
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.layers.0": "cpu"}
    places |= dict.fromkeys(("model.layers.1", "model.layers.2", "model.norm", "lm_head"), "disk")
    model = AutoModelForCausalLM.from_pretrained(
        tiny_directory, device_map=places, offload_folder=tmp_path / "offloaded", trust_remote_code=False
    )
    spread = LoadedModel(model.eval(), whole.chat, replace(CPU, matmul="torch"))
    assert {str(parameter.device) for parameter in model.parameters()} == {"cpu", "meta"}
    assert why_not_packed(replace(spread, hardware=TWO)) is not None
    plain = load_model(Checkpoint(name="tiny", path=tiny_directory), spread.hardware)
    work = [Scored([[5, 6, 7], [8, 9, 10, 11]], [12, 13, 14, 2])]
    logits = [torch.cat(list(*PrefixScorer(loaded).logits(work)), 1).numpy() for loaded in (spread, plain)]
    np.testing.assert_array_equal(*logits)
    states = [last_token_states(loaded, [[5, 6, 7], [8, 9]], [0, 2]).numpy() for loaded in (spread, plain)]
    np.testing.assert_array_equal(*states)
