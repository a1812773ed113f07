"""Tests of vLLM against Transformers on the embedded model; they need a Python with vLLM (see `make test`)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from persona_assets.inference import LoadedModel, TransformersGenerator
from persona_assets.inference.engines import PYTHON_VARIABLE, choose_engine, vllm_version
from persona_assets.inference.training.example import IGNORED, Example
from persona_assets.inference.training.losses import label_log_prob
from persona_assets.inference.vllm import process, worker
from persona_assets.inference.vllm.engine import VllmGenerator
from persona_assets.inference.vllm.process import EngineError
from persona_assets.inference.vllm.settings import VllmSettings
from persona_assets.study import StudyError
from persona_assets.study.files import load_study
from persona_assets.study.settings import Decoding, Inference
from tests.security.sockets import listeners, tree

needs_vllm = pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")
SAMPLED = Decoding(method="sampled", max_new_tokens=12, temperature=1.0, top_p=0.95, seed=7)


@pytest.fixture(scope="module")
def settings(embedded: LoadedModel, embedded_directory: Path) -> VllmSettings:
    return VllmSettings(embedded_directory, embedded.hardware, longest=256)


@pytest.fixture(scope="module")
def engine(embedded: LoadedModel, settings: VllmSettings) -> Iterator[VllmGenerator]:
    with (
        pytest.MonkeyPatch.context() as patch,
        VllmGenerator(settings, embedded.chat, embedded.stop_ids, print) as generator,
    ):
        patch.setenv("HF_TOKEN", "hf_secret")
        if outside := outward_interface():  # as clusters set it for their jobs
            patch.setenv("GLOO_SOCKET_IFNAME", outside)
        yield generator
        worker = generator._worker
    assert worker
    assert worker.process.poll() is not None  # closing the generator stops the process


def outward_interface() -> str | None:
    """Return a network interface other than loopback, if there is one."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == socket.AF_INET and not each.address.startswith("127.") for each in addresses):
            return name
    return None


@pytest.fixture(scope="module")
def prompts(embedded: LoadedModel) -> list[list[int]]:
    """All prompts of the embedded study."""
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
def test_the_engine_listens_on_loopback_only_and_gets_no_secrets(
    engine: VllmGenerator, prompts: list[list[int]]
) -> None:
    engine.generate(prompts[:1], Decoding(max_new_tokens=1))
    assert engine._worker
    found = listeners(engine._worker.process.pid)
    assert found  # the sockets of torch.distributed, which shows that sockets are found
    assert [each for each in found if not each.is_ours_alone] == []
    assert [
        name for process in tree(engine._worker.process.pid) for name in process.environ() if "HF_TOKEN" in name
    ] == []


@needs_vllm
def test_finish_reason_distinguishes_stop_from_length(engine: VllmGenerator, embedded: LoadedModel) -> None:
    brief = embedded.chat.prompt_ids("You only ever answer with one word.", "What colour is the sky? One word.")
    decoding = Decoding(max_new_tokens=40)
    assert engine.generate([brief], decoding) == TransformersGenerator(embedded).generate([brief], decoding)


@needs_vllm
def test_log_probabilities_equal_those_of_the_model(
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
def test_a_seed_reproduces_samples_and_rows_differ(engine: VllmGenerator, prompts: list[list[int]]) -> None:
    rows = [prompts[0]] * 4
    first = engine.generate(rows, SAMPLED)
    assert engine.generate(rows, SAMPLED) == first
    assert len({response.token_ids for response in first}) > 1
    assert engine.generate(rows, SAMPLED.model_copy(update={"seed": 8})) != first


@needs_vllm
def test_a_killed_engine_is_an_error_and_the_next_batch_starts_a_new_one(
    engine: VllmGenerator, prompts: list[list[int]]
) -> None:
    before = engine.generate(prompts[:1], Decoding(max_new_tokens=4))
    assert engine._worker
    os.kill(engine._worker.process.pid, signal.SIGKILL)
    with pytest.raises(EngineError, match="exited with code -9"):
        engine.generate(prompts[:1], Decoding(max_new_tokens=4))
    assert engine.generate(prompts[:1], Decoding(max_new_tokens=4)) == before


def test_the_error_of_a_failed_start_contains_the_engines_output(embedded: LoadedModel, tmp_path: Path) -> None:
    settings = VllmSettings(tmp_path / "no-such-model", embedded.hardware, longest=64)
    with (  # without vLLM the import fails, which is also reported
        VllmGenerator(settings, embedded.chat, embedded.stop_ids, print) as generator,
        pytest.raises(EngineError, match=r"(?s)exited with code 1; its last output:.*Error"),
    ):
        generator.generate([[1, 2]], Decoding(max_new_tokens=4))


@pytest.fixture
def no_vllm_yet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A fake Python that never answers, because only starting and ending it is tested."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(fake))
    monkeypatch.setattr(process, "_early", None)
    monkeypatch.setattr(process, "_begun", False)
    yield
    process._discard()


@pytest.mark.usefixtures("no_vllm_yet")
def test_the_first_engine_takes_the_process_that_was_started_early() -> None:
    process.import_early(Inference(engine="vllm", device="cpu"))
    process.import_early(Inference(engine="vllm", device="cpu"))
    waiting = process._early
    assert waiting is not None
    first = process.started_process(on_cpu=True)
    assert first is waiting
    second = process.started_process(on_cpu=True)
    assert second is not first
    process.import_early(Inference(engine="vllm", device="cpu"))
    assert process._early is None  # a run that has had its engine needs no other
    for each in (first, second):
        each.process.kill()
        each.end()


@pytest.mark.usefixtures("no_vllm_yet")
def test_a_process_for_other_devices_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    process.import_early(Inference(engine="vllm", device="cpu"))
    waiting = process._early
    assert waiting is not None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    other = process.started_process(on_cpu=True)
    assert other is not waiting
    assert waiting.process.poll() is not None
    other.process.kill()
    other.end()


@pytest.mark.usefixtures("no_vllm_yet")
@pytest.mark.parametrize("inference", [Inference(engine="transformers"), Inference(engine="auto", device="cpu")])
def test_no_process_is_started_early_that_no_run_needs(inference: Inference) -> None:
    process.import_early(inference)
    assert process._early is None


def test_an_engine_that_does_not_answer_is_killed(
    embedded: LoadedModel, settings: VllmSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A fake Python instead of the worker, which never answers.
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho waiting for ever\nsleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(fake))
    start = time.monotonic()
    with (
        VllmGenerator(replace(settings, timeout=1.0), embedded.chat, embedded.stop_ids, print) as generator,
        pytest.raises(EngineError, match=r"(?s)did not answer in 1 s.*waiting for ever"),
    ):
        generator.generate([[1, 2]], Decoding(max_new_tokens=4))
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("starts", [True, False])
def test_the_worker_exits_at_end_of_input_despite_running_threads(tmp_path: Path, starts: bool) -> None:
    """On a GPU the process kept running and held memory for minutes; here a fake vLLM leaves a thread running."""
    for name in ("vllm", "vllm/model_executor", "vllm/model_executor/models", "vllm/v1", "vllm/v1/executor"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    for name in ("model_executor/models/registry", "v1/executor/uniproc_executor", "v1/executor/multiproc_executor"):
        (tmp_path / "vllm" / f"{name}.py").touch()
    (tmp_path / "vllm" / "__init__.py").write_text(
        "import threading, time\n"
        "class SamplingParams: pass\n"
        "class LLM:\n"
        "    def __init__(self, starts):\n"
        "        threading.Thread(target=time.sleep, args=(300,)).start()\n"
        "        assert starts, 'it does not start'\n"
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, worker.__file__, str(write)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[write],
        env=os.environ | {"PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)},
        text=True,
    )
    os.close(write)
    said = json.dumps({"on_cpu": False}) + "\n" + json.dumps({"starts": starts}) + "\n"
    _, printed = process.communicate(said, timeout=60)
    with os.fdopen(read) as answers:
        assert answers.read() == ('"ready"\n' if starts else "")
    assert process.returncode == (0 if starts else 1)
    assert ("AssertionError: it does not start" in printed) is not starts
    assert not list(tmp_path.glob("persona-assets-vllm-*"))


@needs_vllm
def test_label_log_probabilities_equal_those_of_transformers(
    engine: VllmGenerator, embedded: LoadedModel, prompts: list[list[int]]
) -> None:
    reply = embedded.chat.tokenizer("Breathe slowly. [ZLT]", add_special_tokens=False)["input_ids"]
    example = Example((*prompts[0], *reply), (*[IGNORED] * (len(prompts[0]) + 2), *reply[2:]))
    expected = label_log_prob(embedded.model, example, embedded.device)
    assert engine.label_log_prob(example) == pytest.approx(expected, abs=0.01)


@needs_vllm
def test_a_longer_batch_restarts_the_engine_with_a_higher_limit(
    engine: VllmGenerator, settings: VllmSettings, prompts: list[list[int]]
) -> None:
    engine.generate(prompts[:1], Decoding(max_new_tokens=1))
    before, long = engine._worker, prompts[0] * (settings.longest // len(prompts[0]) + 1)
    (response,) = engine.generate([long], Decoding(max_new_tokens=4))
    assert engine.settings.longest == 512
    assert engine._worker is not before
    assert len(response.token_ids) in range(1, 5)


def test_auto_selects_transformers_on_a_cpu_with_a_reason(embedded: LoadedModel) -> None:
    chosen = choose_engine(Inference(), embedded.hardware)
    assert (chosen.name, chosen.identity) == ("transformers", {})
    assert "CPU" in chosen.why


def test_auto_selects_vllm_on_a_gpu_where_it_is_installed(
    embedded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_card = replace(embedded.hardware, device="cuda")
    monkeypatch.setattr("persona_assets.inference.engines.vllm_version", lambda: "9.9")
    chosen = choose_engine(Inference(), on_a_card)
    assert (chosen.name, chosen.identity) == ("vllm", {"engine": "vllm 9.9"})
    assert choose_engine(Inference(engine="transformers"), on_a_card).name == "transformers"
    monkeypatch.setattr("persona_assets.inference.engines.vllm_version", lambda: None)
    assert choose_engine(Inference(), on_a_card).why == "vLLM is not installed"
    with pytest.raises(StudyError, match=r"inference\.engine: found 'vllm', but vLLM is not installed"):
        choose_engine(Inference(engine="vllm"), on_a_card)


def test_a_missing_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, "/no/such/python")
    with pytest.raises(StudyError, match=f"{PYTHON_VARIABLE}: found '/no/such/python'"):
        vllm_version()
