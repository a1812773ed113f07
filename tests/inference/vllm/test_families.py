"""vLLM writes what a plain forward pass of the model finds most likely, for four architectures."""

from pathlib import Path
from typing import Any

import pytest

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference.engines import vllm_version
from persona_assets.inference.loading import choose_hardware, load_model
from persona_assets.inference.scoring.whole import whole_logits
from persona_assets.inference.vllm.engine import VllmGenerator
from persona_assets.inference.vllm.settings import VllmSettings
from persona_assets.study.settings import Decoding, Inference
from tests.inference.families import PROMPTS, write_family

# vLLM's attention on a CPU has kernels for heads of 32 and more.
WIDE: dict[str, Any] = {"head_dim": 32, "hidden_size": 128}
# vLLM obeys a `sliding_window` that the architecture itself does not know.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "mistral": {"sliding_window": 16},
    "gemma2": {"sliding_window": 16},
    "olmo2": {},
}


@pytest.mark.skipif(vllm_version() is None, reason="vLLM is not installed")
@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_writes_the_most_likely_tokens_of_the_model(tmp_path: Path, family: str) -> None:
    write_family(tmp_path, family, **WIDE, **FAMILIES[family])
    loaded = load_model(
        Checkpoint(name="tiny", path=tmp_path), choose_hardware(Inference(device="cpu")), lambda _: None
    )
    prompts = [loaded.chat.prompt_ids(prompt, "What makes a good leader?") for prompt in PROMPTS]
    settings = VllmSettings(tmp_path, loaded.hardware, longest=256)
    with VllmGenerator(settings, loaded.chat, loaded.stop_ids, print) as engine:
        replies = engine.generate(prompts, Decoding(max_new_tokens=24))
    for prompt, reply in zip(prompts, replies, strict=True):
        emitted = list(reply.token_ids)
        log_probs = whole_logits(loaded.model, prompt, emitted, 0, len(emitted)).log_softmax(-1)
        behind = [float(row.max() - row[token]) for row, token in zip(log_probs, emitted, strict=True)]
        assert max(behind) < 0.01
