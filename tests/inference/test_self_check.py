"""The self-check passes for every kind of model, and fails when scorer, attention, generation or training go wrong.

`scripts/broken_copies.yaml` breaks each of these parts; these tests must notice.
"""

from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import describe_failures, self_check
from persona_assets.inference.loading import LoadedModel, choose_hardware, load_model
from persona_assets.study.settings import Inference
from tests.inference.families import PROMPTS, RESPONSE, write_family

# One of each kind: full attention, a window, a chunk, soft caps, sinks, shared keys, recurrent, positions by row.
KINDS = {
    "full attention": ("llama", {}),
    "a sliding window": ("mistral", {}),
    "soft caps": ("gemma2", {"attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 1}),
    "attention sinks": ("gpt_oss", {}),
    "chunked attention": ("llama4_text", {}),
    "shared keys": ("gemma3n_text", {}),
    "a hybrid": ("qwen3_next", {}),
    "a recurrent model": ("mamba2", {}),
    "positions counted by row": ("bart", {}),
}  # fmt: skip


def loaded_family(directory: Path, kind: str) -> LoadedModel:
    family, changes = KINDS[kind]
    write_family(directory, family, **changes)
    return load_model(Checkpoint(name="tiny", path=directory), choose_hardware(Inference(device="cpu")), lambda _: None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deterministic", [False, True])
def test_every_kind_of_model_passes(tmp_path: Path, kind: str, deterministic: bool) -> None:
    loaded = loaded_family(tmp_path, kind)
    prompts = [loaded.chat.prompt_ids(prompt, "What makes a good leader?") for prompt in PROMPTS]
    response = loaded.chat.tokenizer(RESPONSE)["input_ids"]
    findings = self_check(loaded, prompts, response, deterministic)
    assert describe_failures(findings, "tiny", kind) is None
    assert {finding.part.partition(":")[0].partition(" (")[0] for finding in findings} >= {
        "causality",
        "scoring",
        "hidden states",
        "generation",
        "training loss",
    }


def test_a_failure_names_the_family_the_error_and_what_to_do(tmp_path: Path) -> None:
    loaded = loaded_family(tmp_path, "full attention")
    prompts = [loaded.chat.prompt_ids(prompt, "Why?") for prompt in PROMPTS]
    response = loaded.chat.tokenizer(RESPONSE)["input_ids"]
    forward = loaded.model.forward

    def without_padding(*arguments: object, **options: object) -> object:
        """Attend to padding like text, as a model without an attention mask does."""
        options.pop("attention_mask", None)
        return forward(*arguments, **options)

    loaded.model.forward = without_padding
    said = describe_failures(self_check(loaded, prompts, response), "tiny", "llama")
    assert said is not None
    assert said.startswith("tiny: the architecture llama is not computed as its own forward pass computes it: scoring")
    assert "expected at most 1e-07" in said
    assert "attention: eager" in said


def test_a_dropped_soft_cap_is_found(tmp_path: Path) -> None:
    loaded = loaded_family(tmp_path, "soft caps")
    loaded.model.set_attn_implementation("sdpa")
    prompts = [loaded.chat.prompt_ids(prompt, "Why?") for prompt in PROMPTS]
    findings = self_check(loaded, prompts, loaded.chat.tokenizer(RESPONSE)["input_ids"])
    assert [finding.part for finding in findings if not finding.passed] == ["attention: sdpa against eager"]
