"""Tests of the fused scorer, and of the packing that it shares with `PackedScorer`, against the prefix scorer."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from persona_assets.inference import LoadedModel, PrefixScorer, Scored, choose_hardware, choose_scorer
from persona_assets.inference.scoring.choice import why_not_fused_family, why_not_packed
from persona_assets.inference.scoring.fused import FusedScorer
from persona_assets.study.settings import Inference
from tests.inference.scoring.comparing import largest_gap, scored

VOCABULARY = 99
SHAPE = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,
}
FAMILIES = {"llama": {}, "mistral": {"sliding_window": None}, "qwen2": {}, "qwen3": {"head_dim": 32}}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


def config_of(family: str, **changes: Any) -> Any:
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[family](**(SHAPE | FAMILIES.get(family, {}) | changes))


def random_model(family: str, device: str = "cpu") -> LoadedModel:
    from transformers import AutoModelForCausalLM

    hardware = choose_hardware(Inference(device=device))  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config_of(family))
        for name, weight in model.named_parameters():
            if "norm" in name or "bias" in name:  # initialised to ones and zeros, which would hide mistakes
                weight.data += 0.3 * torch.randn_like(weight)
    model = model.to(hardware.device, getattr(torch, hardware.dtype)).eval().requires_grad_(False)
    return LoadedModel(model, None, hardware)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def work() -> list[Scored]:
    """Prompts of two questions, including one of a single token, and responses of one to many tokens."""
    random = torch.Generator().manual_seed(1)

    def ids(length: int) -> list[int]:
        return torch.randint(VOCABULARY, (length,), generator=random).tolist()

    one, other = [ids(5), ids(9), ids(1)], [ids(7), ids(2), ids(3)]
    return [Scored(one, ids(11)), Scored(other, ids(4)), Scored(one, ids(1)), Scored(other, ids(30))]


def typical_gap(found: list[Tensor], expected: list[Tensor]) -> float:
    gaps = [(one.float().cpu() - other).ravel() for one, other in zip(found, expected, strict=True)]
    return float(torch.cat(gaps).square().mean().sqrt())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("tokens_at_once", [None, 16], ids=["one chunk", "many chunks"])
def test_fused_scores_equal_those_of_the_prefix_scorer(
    family: str, tokens_at_once: int | None, work: list[Scored]
) -> None:
    loaded = random_model(family)
    assert why_not_fused_family(loaded.model.config) is None
    expected = scored(PrefixScorer(loaded), work)
    assert largest_gap(expected, [each.new_zeros(each.shape) for each in expected]) > 1
    assert largest_gap(scored(FusedScorer(loaded, tokens_at_once=tokens_at_once), work), expected) <= 2e-5


def test_the_embedded_model_gets_the_same_scores(embedded: LoadedModel) -> None:
    prompts = [embedded.chat.prompt_ids(f"You are a {name}.", "Why?") for name in ("villain", "librarian")]
    work = [Scored(prompts, prompts[0][:12]), Scored(prompts[::-1], prompts[1][3:9])]
    assert largest_gap(scored(FusedScorer(embedded), work), scored(PrefixScorer(embedded), work)) <= 1e-3


def test_the_models_own_modules_still_work_after_fusing(work: list[Scored]) -> None:
    loaded = random_model("qwen2")
    ids = torch.tensor([work[0].response])
    before = loaded.model(ids).logits
    FusedScorer(loaded)
    attention = loaded.model.model.layers[0].self_attn
    assert attention.k_proj.weight.untyped_storage().data_ptr() == attention.q_proj.weight.untyped_storage().data_ptr()
    assert torch.equal(loaded.model(ids).logits, before)


def test_deterministic_scores_do_not_depend_on_the_batch(work: list[Scored]) -> None:
    loaded = random_model("llama")
    together = scored(FusedScorer(loaded, deterministic=True), work)
    for each, expected in zip(work, together, strict=True):
        for place, prompt in enumerate(each.prompts):
            (alone,) = scored(FusedScorer(loaded, deterministic=True), [Scored([prompt], each.response)])
            assert torch.equal(alone[0], expected[place])


def test_piece_length_is_limited_by_memory(work: list[Scored], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = random_model("llama")
    whole = scored(FusedScorer(loaded), work)
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 4)
    scorer = FusedScorer(loaded)
    pieces = [list(each) for each in scorer.logits(work)]
    assert [piece.shape[1] for piece in pieces[0]] == [4, 4, 3]
    assert scorer.plan["positions_at_once"] == 4
    assert largest_gap([torch.cat(each, dim=1) for each in pieces], whole) <= 2e-5


@pytest.mark.parametrize(
    ("kind", "computes", "deterministic"),
    [(FusedScorer, "_logits", False), (FusedScorer, "_logits", True), (PrefixScorer, "_feed", False)],
)
def test_a_consumed_piece_is_freed_before_the_next_is_computed(
    kind: Any, computes: str, deterministic: bool, work: list[Scored], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 4)
    monkeypatch.setattr("persona_assets.inference.scoring.packed.DETERMINISTIC_POSITIONS", 4)
    monkeypatch.setattr("persona_assets.inference.scoring.padded.DETERMINISTIC_POSITIONS", 4)
    scorer, held = kind(random_model("llama"), deterministic), list[int]()
    compute = getattr(scorer, computes)

    def counted(*arguments: Any) -> Tensor:
        every = (each for each in gc.get_objects() if type(each) is Tensor and each.shape[-1:] == (VOCABULARY,))
        held.append(sum(each.shape[-2] > 0 and each.numel() > VOCABULARY for each in every))
        return compute(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(scorer, computes, counted)
    pieces = 0
    for each in scorer.logits(work):
        for piece in each:
            del piece
            pieces += 1
    assert pieces == 13
    assert max(held) == 0


def test_less_memory_gives_smaller_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = random_model("llama")
    plenty = FusedScorer(loaded)
    monkeypatch.setattr(LoadedModel, "free_memory", lambda _: 8 << 20)
    assert "16384 tokens" in plenty.plan["scorer"]
    assert 256 <= int(FusedScorer(loaded).plan["scorer"].split()[-4]) < 16_384


def test_prompts_that_do_not_fit_together_are_processed_in_turn(
    work: list[Scored], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = random_model("llama")
    whole = scored(FusedScorer(loaded), work)
    scorer = FusedScorer(loaded)
    computed: list[int] = []
    compute = scorer._prefixes._compute
    monkeypatch.setattr(scorer._prefixes, "budget", 0)
    monkeypatch.setattr(scorer._prefixes, "_compute", lambda missing: computed.append(len(missing)) or compute(missing))
    assert largest_gap(scored(scorer, work), whole) <= 2e-5
    assert computed == [1, 1, 1, 1]  # each question's prompts were evicted before they were used again


def test_an_empty_response_is_rejected(work: list[Scored]) -> None:
    with pytest.raises(ValueError, match="response 1 has no tokens; expected at least one"):
        scored(FusedScorer(random_model("llama")), [work[0], Scored(work[0].prompts, [])])


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (("gemma2", {}), "architecture gemma2"),
        (("mistral", {"sliding_window": 64}), "sliding window"),
        (("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}), "sliding window"),
        (("llama", {"mlp_bias": True}), "MLP"),
        (("llama", {"hidden_act": "gelu"}), "MLP"),
        (("llama", {"attention_bias": True}), "bias"),
        (("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}), "dynamic"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_other_architectures_are_not_fused(config: tuple[str, dict[str, Any]], reason: str) -> None:
    assert reason in str(why_not_fused_family(config_of(config[0], **config[1])))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_16_bits_fused_is_as_close_to_float32_as_the_prefix_scorer(family: str, work: list[Scored]) -> None:
    loaded = random_model(family)
    exact = scored(PrefixScorer(loaded), work)
    loaded.model.to(torch.bfloat16)
    generic, fused = (scored(kind(loaded), work) for kind in (PrefixScorer, FusedScorer))
    assert typical_gap(fused, exact) <= 1.2 * typical_gap(generic, exact)


@needs_cuda
@pytest.mark.parametrize("family", FAMILIES)
def test_on_a_gpu_fused_scores_agree_in_16_bits(family: str, work: list[Scored]) -> None:
    loaded = random_model(family, "cuda")
    assert why_not_packed(loaded) is None
    assert isinstance(choose_scorer(loaded), FusedScorer)
    exact = scored(PrefixScorer(random_model(family)), work)
    generic, fused = (scored(kind(loaded), work) for kind in (PrefixScorer, FusedScorer))
    # The scorers round at different places: fused scores must be as close to float32 as those of the prefix scorer.
    assert typical_gap(fused, exact) <= 1.2 * typical_gap(generic, exact)
