"""Tests of models that are spread over several GPUs; some need no GPU."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from persona_assets.checkpoints import Checkpoint
from persona_assets.graph.partitions import STUDY
from persona_assets.graph.provenance import HEAVY, LIGHT, code_version
from persona_assets.inference import PrefixScorer, Scored, last_token_states
from persona_assets.inference.engines import vllm_version
from persona_assets.inference.loading import LoadedModel, choose_hardware, load_model
from persona_assets.inference.scoring.choice import why_not_packed
from persona_assets.inference.training.example import IGNORED, Example
from persona_assets.inference.vllm.engine import VllmGenerator
from persona_assets.inference.vllm.settings import EngineMemory, VllmSettings, require_divisible
from persona_assets.study import StudyError
from persona_assets.study.settings import Decoding, Inference
from tests.security.sockets import listeners
from tests.tiny_model import write_tiny_model

needs_two_cards = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA cards")
CPU = choose_hardware(Inference(device="cpu"))
TWO = replace(CPU, device="cuda", tensor_parallel=2)


def test_more_gpus_than_available_is_a_study_error() -> None:
    expected = "inference.tensor_parallel: found 2, but the model runs on the CPU; expected at most 1"
    with pytest.raises(StudyError, match=re.escape(expected)):
        choose_hardware(Inference(device="cpu", tensor_parallel=2))


def test_one_gpu_keeps_the_digests_of_earlier_versions() -> None:
    assert "tensor_parallel" not in CPU.environment()
    assert TWO.environment()["tensor_parallel"] == "2"
    spread = STUDY.model_copy(update={"inference": Inference(tensor_parallel=2)})
    assert "tensor_parallel" not in LIGHT["report"](STUDY)["inference"]
    assert LIGHT["report"](spread)["inference"]["tensor_parallel"] == 2
    for asset in HEAVY:
        assert code_version(spread, asset) != code_version(STUDY, asset)


def test_vllm_gets_the_tensor_parallel_size_and_indivisible_heads_are_rejected(tmp_path: Path) -> None:
    settings = VllmSettings(tmp_path, TWO, memory=EngineMemory(0.5, 1 << 30))
    assert settings.for_worker()["tensor_parallel_size"] == 2
    assert "tensor_parallel_size" not in replace(settings, hardware=CPU).for_worker()
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 28}))
    require_divisible(tmp_path, TWO)
    with pytest.raises(StudyError, match=r"found 3, but .* has 28 attention heads; expected a number that divides 28"):
        require_divisible(tmp_path, replace(TWO, tensor_parallel=3))


def test_a_spread_model_scores_the_same(tiny_directory: Path, tmp_path: Path) -> None:
    """CPU and disk stand in for two GPUs; accelerate moves tensors between them."""
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


# Two GPUs


@pytest.fixture
def wide_directory(tmp_path: Path) -> Path:
    """Model with head width 32, the minimum of vLLM's GPU attention."""
    write_tiny_model(tmp_path / "wide", hidden_size=128, intermediate_size=256)
    return tmp_path / "wide"


@needs_two_cards
def test_two_gpus_score_the_same_as_one(wide_directory: Path) -> None:
    asked = [Inference(device="cuda", dtype="float32", tensor_parallel=count) for count in (1, 2)]
    one, two = (load_model(Checkpoint(name="wide", path=wide_directory), choose_hardware(each)) for each in asked)
    assert {parameter.device.index for parameter in two.model.parameters()} == {0, 1}
    work = [Scored([[5, 6, 7], [8, 9, 10, 11]], [12, 13, 14, 2])]
    logits = [torch.cat(list(*PrefixScorer(loaded).logits(work)), 1).cpu() for loaded in (one, two)]
    torch.testing.assert_close(*logits)
    states = [last_token_states(loaded, [[5, 6, 7], [8, 9]], [0, 2]).cpu() for loaded in (one, two)]
    torch.testing.assert_close(*states)


@needs_two_cards
@pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")
def test_vllm_on_two_gpus_gives_the_same_results_as_on_one(wide_directory: Path) -> None:
    """Its processes listen on loopback only and exit with it on every GPU."""
    examples = [Example([5 + number, *range(20, 60)], [IGNORED, *range(20, 60)]) for number in range(8)]
    found = []
    for count in (1, 2):
        hardware = choose_hardware(Inference(device="cuda", dtype="bfloat16", tensor_parallel=count))
        loaded = load_model(Checkpoint(name="wide", path=wide_directory), hardware)
        settings = VllmSettings(wide_directory, hardware, longest=256, memory=EngineMemory(0.02, 1 << 30))
        before = [torch.cuda.mem_get_info(card)[0] for card in range(count)]
        with VllmGenerator(settings, loaded.chat, loaded.stop_ids, print) as generator:
            found.append([generator.label_log_prob(example) for example in examples])
            (response,) = generator.generate([examples[0].token_ids], Decoding(max_new_tokens=8))
            assert response.token_ids
            assert generator._process
            found_open = [each for each in listeners(generator._process.pid) if not each.is_ours_alone]
            # NCCL and CUDA open abstract UNIX sockets, which only processes of this machine can reach.
            assert [each for each in found_open if each.kind != "unix"] == []
        after = [torch.cuda.mem_get_info(card)[0] for card in range(count)]
        assert all(left - found < 1 << 28 for left, found in zip(before, after, strict=True))
    # Mean log-probabilities of 40 random tokens, around -40; the order of summation differs between GPU counts.
    np.testing.assert_allclose(*found, rtol=2e-3)
