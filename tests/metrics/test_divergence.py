"""JS and KL of logits, compared with SciPy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, rel_entr
from torch import Tensor

from persona_assets.metrics import divergence, jensen_shannon, kullback_leibler, pairwise_divergence
from persona_assets.metrics.divergence import pairwise_js

VOCABULARIES = (2, 3, 100, 32_768, 32_769, 49_152, 152_064)  # both sides of a block; SmolLM2's; Qwen2.5's
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
repeatable = settings(derandomize=True, deadline=None, max_examples=40)


def logits_of(scorers: int, positions: int, vocabulary: int, seed: int, peak: float = 2.5, gap: float = 0.5) -> Tensor:
    """Make logits of a common distribution (more peaked for a larger `peak`) plus a deviation per scorer."""
    random = torch.Generator().manual_seed(seed)
    common = peak * torch.randn(1, positions, vocabulary, generator=random)
    return common + gap * torch.randn(scorers, positions, vocabulary, generator=random)


def probabilities(logits: Tensor) -> NDArray[np.float64]:
    return np.exp(log_softmax(logits.double().numpy(), axis=-1))


def scipy_js(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    return float(jensenshannon(p, q)) ** 2


def small_js_pair(js: float, vocabulary: int, peak: float) -> tuple[Tensor, Tensor, float]:
    """Make float32 logits whose true JS is within 10 % of `js`, and return that true value."""
    random = np.random.default_rng(vocabulary)
    base, step = peak * random.standard_normal(vocabulary), random.standard_normal(vocabulary)

    def truth(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        # Long double and log1p, because SciPy's square root and its square lose precision for values this small.
        la, lb = (np.asarray(x, dtype=np.longdouble) for x in (a, b))
        p, q = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (la, lb))
        r = (p - q) / (p + q)
        return float((p * np.log1p(r) + q * np.log1p(-r)).sum() / 2)

    scale = brentq(lambda s: truth(base, base + s * step) - js, 1e-6, 1.0)
    a, b = (x.astype(np.float32) for x in (base, base + scale * step))
    return torch.from_numpy(a), torch.from_numpy(b), truth(a, b)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_js_and_kl_agree_with_scipy_in_float64(vocabulary: int, dtype: torch.dtype) -> None:
    for gap in (0.05, 0.5, 4.0):
        logits = logits_of(3, 1, vocabulary, seed=vocabulary, gap=gap).to(dtype)
        js, kl = pairwise_divergence(logits)
        p = probabilities(logits[:, 0])
        for i in range(3):
            for j in range(3):
                assert float(js[0, i, j]) == pytest.approx(scipy_js(p[i], p[j]), abs=2e-7)
                assert float(kl[0, i, j]) == pytest.approx(float(rel_entr(p[i], p[j]).sum()), rel=1e-9, abs=1e-12)
        single = float(jensen_shannon(logits[0, 0], logits[1, 0]))
        assert single == pytest.approx(scipy_js(p[0], p[1]), abs=1e-7)
        both = float(kullback_leibler(logits[0, 0], logits[1, 0]))
        assert both == pytest.approx(float(rel_entr(p[0], p[1]).sum()), rel=2e-7, abs=1e-12)


@pytest.mark.parametrize("peak", [0.0, 2.5, 6.0], ids=["flat", "language", "peaked"])
@pytest.mark.parametrize("vocabulary", [2, 1000, 49_152, 152_064])
@pytest.mark.parametrize("js", [1e-6, 1e-5])
def test_js_of_nearly_equal_distributions_keeps_its_digits(js: float, vocabulary: int, peak: float) -> None:
    a, b, truth = small_js_pair(js, vocabulary, peak)
    assert truth == pytest.approx(js, rel=0.1)
    assert float(jensen_shannon(a, b)) == pytest.approx(truth, rel=1e-6)
    assert float(pairwise_divergence(torch.stack([a, b])[:, None])[0][0, 0, 1]) == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("certainty", [4.0, 8.0, 12.0])
def test_js_is_accurate_where_one_token_holds_most_of_the_mass(certainty: float) -> None:
    # A float32 sum over the vocabulary has an error of 3e-6 here.
    logits = logits_of(4, 1, 49_152, seed=5, gap=2.5)
    logits[:, :, 7] = math.log(49_152) + certainty
    js, _ = pairwise_divergence(logits)
    p = probabilities(logits[:, 0])
    assert float(js[0, 0, 3]) == pytest.approx(scipy_js(p[0], p[3]), abs=2e-7)


@repeatable
@given(
    scorers=st.integers(1, 6),
    vocabulary=st.integers(1, 300),
    seed=st.integers(0, 2**31),
    peak=st.floats(0, 30),
    gap=st.floats(0, 60),
    hidden=st.floats(0, 0.9),
)
def test_js_is_symmetric_bounded_and_zero_on_itself(
    scorers: int, vocabulary: int, seed: int, peak: float, gap: float, hidden: float
) -> None:
    logits = logits_of(scorers, 2, vocabulary, seed, peak, gap)
    out = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed)) < hidden
    out[..., 0] = False
    logits[out] = -math.inf
    js, kl = pairwise_divergence(logits)
    assert torch.equal(js, js.transpose(1, 2))
    assert bool(((js >= 0) & (js <= math.log(2))).all())
    assert bool((kl >= 0).all())  # false for NaN too
    assert bool((js.diagonal(dim1=1, dim2=2) == 0).all())
    assert bool((kl.diagonal(dim1=1, dim2=2) == 0).all())
    one, other = logits[:, None], logits[None]
    single = jensen_shannon(one, other)
    assert torch.equal(single, single.transpose(0, 1))
    assert bool(((single >= 0) & (single <= math.log(2))).all())
    # permute: the single form returns (K, K, T), the pairwise one (T, K, K).
    torch.testing.assert_close(single.permute(2, 0, 1).double(), js, atol=2e-7, rtol=0)
    torch.testing.assert_close(kullback_leibler(one, other).permute(2, 0, 1).double(), kl, atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_js_of_two_scorers_with_equal_logits_is_exactly_zero(vocabulary: int) -> None:
    logits = logits_of(3, 1, vocabulary, seed=1)
    logits[2] = logits[0]
    js, kl = pairwise_divergence(logits)
    assert float(js[0, 0, 2]) == 0.0
    assert float(kl[0, 0, 2]) < 1e-15
    assert float(jensen_shannon(logits[0], logits[2])) == 0.0
    assert float(kullback_leibler(logits[0], logits[2])) == 0.0


@repeatable
@given(seed=st.integers(0, 2**31), cuts=st.sets(st.integers(1, 6)), vocabulary=st.integers(2, 1000))
def test_splitting_the_positions_changes_no_bit(seed: int, cuts: set[int], vocabulary: int) -> None:
    logits = logits_of(4, 7, vocabulary, seed)
    whole_js, whole_kl = pairwise_divergence(logits)
    parts = [pairwise_divergence(part) for part in torch.tensor_split(logits, sorted(cuts), dim=1)]
    assert torch.equal(torch.cat([js for js, _ in parts]), whole_js)
    assert torch.equal(torch.cat([kl for _, kl in parts]), whole_kl)


def test_splitting_the_positions_changes_no_bit_at_full_vocabulary() -> None:
    logits = logits_of(3, 4, 49_152, seed=2)
    whole_js, whole_kl = pairwise_divergence(logits)
    for t in range(4):
        js, kl = pairwise_divergence(logits[:, t : t + 1].clone())
        assert torch.equal(js[0], whole_js[t])
        assert torch.equal(kl[0], whole_kl[t])


@repeatable
@given(seed=st.integers(0, 2**31), vocabulary=st.integers(2, 500), padding=st.integers(1, 100), gap=st.floats(0.01, 10))
def test_vocabulary_order_and_padding_do_not_matter(seed: int, vocabulary: int, padding: int, gap: float) -> None:
    logits = logits_of(3, 2, vocabulary, seed, gap=gap)
    padded = torch.nn.functional.pad(logits, (0, padding), value=-math.inf)
    order = torch.randperm(vocabulary + padding, generator=torch.Generator().manual_seed(seed))
    for before, after in zip(pairwise_divergence(logits), pairwise_divergence(padded[..., order]), strict=True):
        torch.testing.assert_close(before, after, atol=1e-12, rtol=1e-12)


def test_the_block_of_vocabulary_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = logits_of(4, 2, 5000, seed=3)
    whole, _ = pairwise_divergence(logits)
    for width in (1, 777, 4999):
        monkeypatch.setattr(divergence, "VOCABULARY_BLOCK", width)
        torch.testing.assert_close(pairwise_divergence(logits)[0], whole, atol=1e-12, rtol=1e-12)


@repeatable
@given(seed=st.integers(0, 2**31), shift=st.floats(-1e3, 1e3))
def test_logits_need_not_be_normalised(seed: int, shift: float) -> None:
    logits = logits_of(2, 1, 50, seed).double()
    torch.testing.assert_close(
        jensen_shannon(logits[0] + shift, logits[1]), jensen_shannon(logits[0], logits[1]), atol=1e-9, rtol=1e-6
    )


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_disjoint_distributions_reach_ln_2(vocabulary: int, dtype: torch.dtype) -> None:
    nearly = torch.full((2, 1, vocabulary), -60.0, dtype=dtype)
    nearly[0, 0, 0] = nearly[1, 0, 1] = 60.0
    fully = nearly.masked_fill(nearly < 0, -math.inf)
    for logits in (nearly, fully):
        js, kl = pairwise_divergence(logits)
        assert float(js[0, 0, 1]) == pytest.approx(math.log(2), abs=1e-7)
        assert float(jensen_shannon(logits[0], logits[1])) == pytest.approx(math.log(2), abs=1e-7)
        assert not bool(kl.isnan().any())
    assert float(pairwise_divergence(nearly)[1][0, 0, 1]) == pytest.approx(120.0, rel=1e-12)
    assert math.isinf(float(pairwise_divergence(fully)[1][0, 0, 1]))


def test_kl_is_infinite_only_where_mass_meets_none() -> None:
    log_p = torch.tensor([[0.0, 0.0, -math.inf], [0.0, 0.0, 0.0]])
    _, kl = pairwise_divergence(log_p[:, None])
    assert float(kl[0, 0, 1]) == pytest.approx(math.log(1.5), rel=1e-12)
    assert float(kl[0, 1, 0]) == math.inf
    assert float(kullback_leibler(log_p[0], log_p[1])) == pytest.approx(math.log(1.5), rel=1e-6)
    assert float(kullback_leibler(log_p[1], log_p[0])) == math.inf


def test_a_token_masked_with_a_large_negative_number_has_no_mass() -> None:
    masked = torch.tensor([[1.0, 2.0, torch.finfo(torch.float32).min], [2.0, 1.0, -math.inf]])
    _, kl = pairwise_divergence(masked[:, None])
    assert bool(kl.isfinite().all())
    assert bool(kullback_leibler(masked[0], masked[1]).isfinite())


def test_single_forms_broadcast_and_return_float32() -> None:
    one, many = logits_of(1, 3, 20, seed=4)[0], logits_of(5, 3, 20, seed=5)
    for form in (jensen_shannon, kullback_leibler):
        value = form(one.half(), many.double())
        assert value.shape == (5, 3)
        assert value.dtype == torch.float32


def test_the_input_logits_are_not_modified() -> None:
    logits = logits_of(3, 2, 30, seed=6).double()
    before = logits.clone()
    pairwise_divergence(logits)
    jensen_shannon(logits[0], logits[1])
    assert torch.equal(logits, before)


def test_pairwise_js_equals_the_js_of_pairwise_divergence() -> None:
    logits = logits_of(4, 3, 200, seed=11)
    assert torch.equal(pairwise_js(logits), pairwise_divergence(logits)[0])
    assert torch.equal(pairwise_js(logits, impl="torch"), pairwise_divergence(logits, impl="torch")[0])
    with pytest.raises(ValueError, match=r"expected \(K scorers"):
        pairwise_js(logits[0])


def test_nothing_is_compiled_ahead_for_a_cpu() -> None:
    divergence.compile_ahead(11, 49_152, torch.float32, torch.device("cpu"))
    assert divergence._compiling == []


def test_one_scorer_and_no_positions_are_allowed() -> None:
    assert pairwise_divergence(torch.zeros(1, 2, 4))[0].shape == (2, 1, 1)
    assert pairwise_divergence(torch.zeros(3, 0, 4))[1].shape == (0, 3, 3)


@pytest.mark.parametrize(("bad", "found"), [(math.nan, "NaN"), (math.inf, r"\+inf"), (-math.inf, "only −inf")])
def test_the_error_for_invalid_logits_names_scorer_and_position(bad: float, found: str) -> None:
    logits = logits_of(3, 4, 10, seed=7)
    logits[2, 1] = bad
    with pytest.raises(ValueError, match=f"scorer 2, position 1 contain {found}"):
        pairwise_divergence(logits)
    for form in (jensen_shannon, kullback_leibler):
        with pytest.raises(ValueError, match=rf"row \(2, 1\) contain {found}"):
            form(logits, logits)


@pytest.mark.parametrize("shape", [(3, 4), (0, 2, 4), (2, 2, 0), (1, 2, 3, 4)])
def test_shapes_other_than_scorers_positions_tokens_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(K scorers"):
        pairwise_divergence(torch.zeros(shape))


@pytest.mark.parametrize(("p", "q"), [((3, 5), (3, 1)), ((), (5,)), ((0,), (0,))])
def test_differing_vocabularies_are_rejected(p: tuple[int, ...], q: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="with the same V"):
        jensen_shannon(torch.zeros(p), torch.zeros(q))


@pytest.mark.parametrize("among", [[0], [4, 1], [5, 2, 3]])
def test_requested_pairs_are_bit_identical_and_the_others_are_nan(among: list[int]) -> None:
    logits = 3 * torch.randn(6, 2, 40, generator=torch.Generator().manual_seed(1))
    logits[2, 0, 5] = -torch.inf
    whole, part = pairwise_divergence(logits, "torch"), pairwise_divergence(logits, "torch", among)
    wanted = torch.eye(6, dtype=torch.bool)
    wanted[among] = wanted[:, among] = True
    for all_pairs, some in zip(whole, part, strict=True):
        assert torch.equal(some[:, wanted], all_pairs[:, wanted])
        assert bool(some[:, ~wanted].isnan().all())


@pytest.mark.parametrize("among", [[], [6], [-1, 2]])
def test_scorer_indices_out_of_range_are_rejected(among: list[int]) -> None:
    with pytest.raises(ValueError, match="expected at least one index of the 6 scorers"):
        pairwise_divergence(torch.zeros(6, 1, 4), "torch", among)


def test_pairs_that_are_not_requested_are_not_computed() -> None:
    from persona_assets.metrics.divergence import _js_of_all_pairs, _wanted

    p = torch.rand(9, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = _wanted(9, [3, 5])
    js = _js_of_all_pairs(p / p.sum(-1, keepdim=True), wanted)
    assert torch.equal(js > 0, wanted & ~torch.eye(9, dtype=torch.bool))
