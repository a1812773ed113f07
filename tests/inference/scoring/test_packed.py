"""Packed rows through Transformers' own modules, against each sequence alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, Scored, choose_hardware, choose_scorer, load_model
from persona_assets.inference.packed_attention import why_not_packed_rows
from persona_assets.inference.scoring.fused import FusedScorer
from persona_assets.inference.scoring.packed import PackedScorer
from persona_assets.inference.scoring.padded import PrefixScorer
from persona_assets.inference.scoring.whole import WholeScorer
from persona_assets.study.settings import Inference
from tests.inference.families import write_family
from tests.inference.scoring.comparing import largest_gap, scored

# Windows, soft caps, sinks, shared keys and values, latent attention, mixtures of experts, scaled logits, learned
# positions, a head that is called a decoder. `test_families.py` tries more, with less of the scorer.
PACKED = (
    "llama", "mistral", "gemma2", "gemma3n_text", "gemma4_text", "gpt_oss", "cohere", "deepseek_v3", "opt",
    "modernbert-decoder", "qwen3_moe", "gpt_neox",
)  # fmt: skip
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


def loaded_family(directory: Path, family: str, device: str = "cpu") -> LoadedModel:
    write_family(directory, family)
    hardware = choose_hardware(Inference(device=device))  # type: ignore[arg-type]
    return load_model(Checkpoint(name=family, path=directory), hardware)


@pytest.fixture(scope="module")
def work() -> list[Scored]:
    """Prompts within and beyond the window of 8 tokens, one of a single token, and responses of one to many tokens."""
    random = torch.Generator().manual_seed(1)

    def ids(length: int) -> list[int]:
        return torch.randint(3, 200, (length,), generator=random).tolist()

    one, other = [ids(5), ids(19), ids(1)], [ids(12), ids(2), ids(3)]
    return [Scored(one, ids(11)), Scored(other, ids(4)), Scored(one, ids(1)), Scored(other, ids(30), 26)]


@pytest.mark.parametrize("family", PACKED)
def test_packed_scores_are_those_of_each_sequence_alone(family: str, work: list[Scored], tmp_path: Path) -> None:
    loaded = loaded_family(tmp_path, family)
    assert why_not_packed_rows(loaded.model) is None
    expected = scored(WholeScorer(loaded), work)
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 0.1  # Cohere divides its logits by 16
    for scorer in (PackedScorer(loaded), PackedScorer(loaded, tokens_at_once=16), PackedScorer(loaded, True)):
        assert largest_gap(scored(scorer, work), expected) <= 2e-5 * largest


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mamba", "layers other than attention"),
        ("llama4_text", "chunked_attention"),
        ("bloom", "cannot be replaced"),
        # These say that they support it:
        ("nemotron", "NemotronAttention does not pass packed rows on"),
        ("diffllama", "other probabilities than each sequence alone"),
        ("phimoe", "other probabilities than each sequence alone"),
    ],
)
def test_a_family_that_cannot_be_packed_is_found_out(family: str, reason: str, tmp_path: Path) -> None:
    assert reason in str(why_not_packed_rows(loaded_family(tmp_path, family).model))


def test_a_trial_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = loaded_family(tmp_path, "gemma3_text").model
    implementation = model.config._attn_implementation
    model.train()
    assert why_not_packed_rows(model) is None
    assert model.training
    assert model.config._attn_implementation == implementation
    assert model(torch.tensor([[5, 6, 7]])).logits.shape[1] == 3


def test_deterministic_scores_do_not_depend_on_the_batch(work: list[Scored], tmp_path: Path) -> None:
    loaded = loaded_family(tmp_path, "gemma3_text")
    together = scored(PackedScorer(loaded, deterministic=True), work)
    for each, expected in zip(work, together, strict=True):
        for place, prompt in enumerate(each.prompts):
            part = [Scored([prompt], each.response, each.first)]
            (alone,) = scored(PackedScorer(loaded, deterministic=True), part)
            assert torch.equal(alone[0], expected[place])


@needs_cuda
@pytest.mark.parametrize("family", PACKED)
def test_on_a_gpu_packed_scores_agree_in_16_bits(family: str, work: list[Scored], tmp_path: Path) -> None:
    exact = scored(WholeScorer(loaded_family(tmp_path / "cpu", family)), work)
    loaded = loaded_family(tmp_path / "gpu", family, "cuda")
    assert isinstance(choose_scorer(loaded), (PackedScorer, FusedScorer))
    generic, packed = (scored(kind(loaded), work) for kind in (PrefixScorer, PackedScorer))

    def typical_gap(found: list[Tensor]) -> float:
        gaps = [(one.float().cpu() - other).ravel() for one, other in zip(found, exact, strict=True)]
        return float(torch.cat(gaps).square().mean().sqrt())

    # The scorers round at different places: packed scores must be as close to float32 as those of the prefix scorer.
    assert typical_gap(packed) <= 1.3 * typical_gap(generic)
