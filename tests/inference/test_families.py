"""Models of many architectures are computed as their own forward pass computes them, or refused by name.

`make families` tries every causal LM type of Transformers and writes docs/reference/models.md; CI tries the set below.
"""

from pathlib import Path

import pytest

from persona_assets.checkpoints import architecture
from tests.inference.families import ALL, try_family, write_family

CORRECT = (
    "llama", "mistral", "qwen3", "qwen3_moe", "gemma3_text", "gemma3n_text", "gemma4_text", "phi", "phi3", "olmo2",
    "olmo3", "cohere2", "granite", "glm4", "exaone4", "llama4_text", "deepseek_v3", "starcoder2", "gpt2",
    "gpt_neox", "falcon", "bloom", "mpt", "opt", "qwen3_5_text", "jamba", "bamba", "falcon_h1", "lfm2",
    "nemotron_h", "mamba", "rwkv",
)  # fmt: skip


@pytest.mark.parametrize("model_type", CORRECT)
def test_a_family_is_computed_as_its_own_forward_pass(tmp_path: Path, model_type: str) -> None:
    write_family(tmp_path, model_type)
    tried = try_family(tmp_path)
    assert tried.refused is None
    assert [finding for finding in tried.findings if not finding.passed] == []


@pytest.mark.parametrize("model_type", ["bert", "prophetnet", "roberta", "hy_v4", "longcat_flash"])
def test_a_family_that_cannot_be_measured_is_refused_by_name(tmp_path: Path, model_type: str) -> None:
    write_family(tmp_path, model_type, **({"is_decoder": False} if model_type == "bert" else {}))
    assert model_type in str(try_family(tmp_path).refused)


def test_what_is_said_of_architectures_is_what_transformers_says() -> None:
    """Compare the sets in `checkpoints.architecture`, which must do without PyTorch, with Transformers' classes."""
    import inspect

    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    classes = {}
    for kind in ALL:
        found = AutoModelForCausalLM._model_mapping[CONFIG_MAPPING[kind]]
        classes[kind] = found[0] if isinstance(found, tuple) else found
    without_positions = {
        kind for kind, cls in classes.items() if "position_ids" not in inspect.signature(cls.forward).parameters
    }
    assert {kind for kind, cls in classes.items() if cls._is_stateful} == set(architecture.RECURRENT)
    assert {kind for kind, cls in classes.items() if not cls._supports_sdpa} == set(architecture.WITHOUT_SDPA)
    assert without_positions - architecture.RECURRENT - {"bloom", "mpt"} <= set(architecture.POSITIONS_BY_ROW)
    for kind, fields in architecture.DEFAULTS.items():
        assert {name: getattr(CONFIG_MAPPING[kind](), name) for name in fields} == fields
