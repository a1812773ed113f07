"""Triton kernels for JS and KL, under the reference's contract; in Triton's interpreter if there is no GPU."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor

pytest.importorskip("triton")

from persona_assets.metrics import compile_ahead, pairwise_divergence, pairwise_js

CARD = torch.cuda.is_available()
DEVICE = "cuda" if CARD else "cpu"
needs_cuda = pytest.mark.skipif(not CARD, reason="needs a CUDA card")


def logits_of(scorers: int, positions: int, vocabulary: int, gap: float = 0.5, peak: float = 2.5) -> Tensor:
    random = torch.Generator().manual_seed(scorers * positions * vocabulary)
    common = peak * torch.randn(1, positions, vocabulary, generator=random)
    return (common + gap * torch.randn(scorers, positions, vocabulary, generator=random)).to(DEVICE)


def truth(logits: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute JS and KL, (T, K, K), in long double."""
    log_p = log_softmax(logits.double().cpu().numpy().astype(np.longdouble), axis=-1)
    p = np.exp(log_p)
    a, b, la, lb = p[:, None], p[None], log_p[:, None], log_p[None]
    with np.errstate(divide="ignore", invalid="ignore"):
        middle = np.logaddexp(la, lb) - np.log(np.longdouble(2))
        js = np.nansum(a * (la - middle), -1) + np.nansum(b * (lb - middle), -1)
        kl = np.where(a > 0, a * (la - lb), 0).sum(-1)
    return tuple(np.moveaxis(each.astype(np.float64), 2, 0) for each in (js / 2, kl))  # type: ignore[return-value]


def by_kernel(logits: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    js, kl = pairwise_divergence(logits, "triton")
    assert torch.equal(js, pairwise_js(logits, "triton"))
    return js.cpu().numpy(), kl.cpu().numpy()


SHAPES = [(1, 2, 9), (2, 1, 1), (2, 3, 65), (3, 1, 1100), (11, 1, 150), (12, 1, 40), (33, 1, 33)]
if CARD:
    SHAPES += [(2, 1, 152_064), (11, 2, 49_152), (3, 2, 152_063), (33, 1, 9_001), (111, 1, 2_049)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_every_pair_agrees_with_float64(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    if not CARD and dtype != torch.bfloat16 and shape[0] > 11:
        pytest.skip("the interpreter takes seconds for many pairs; one dtype is enough")
    for gap in (0.05, 2.0) if CARD or shape[0] <= 12 else (2.0,):
        logits = logits_of(*shape, gap=gap).to(dtype)
        js, kl = by_kernel(logits)
        true_js, true_kl = truth(logits)
        np.testing.assert_allclose(js, true_js, rtol=0, atol=1e-6)
        np.testing.assert_allclose(kl, true_kl, rtol=3e-6, atol=1e-6)


def test_111_scorers_are_split_into_groups() -> None:
    logits = logits_of(111, 1, 7)
    np.testing.assert_allclose(pairwise_js(logits, "triton").cpu(), truth(logits)[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("js", [1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("peak", [0.5, 4.0], ids=["flat", "peaked"])
def test_js_of_nearly_equal_distributions_keeps_its_digits(js: float, peak: float) -> None:
    gap = math.sqrt(8 * js)  # a small JS is about the variance of the logit difference divided by 8
    logits = logits_of(2, 1, 152_064 if CARD else 4_000, gap=gap, peak=peak)
    expected = truth(logits)[0][0, 0, 1]
    assert js / 3 < expected < 3 * js
    assert float(pairwise_js(logits, "triton")[0, 0, 1]) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("certainty", [4.0, 12.0])
def test_js_is_accurate_where_one_token_holds_most_of_the_mass(certainty: float) -> None:
    logits = logits_of(3, 1, 2_000, gap=0.003)
    logits[:, :, 7] = math.log(2_000) + certainty + torch.tensor([[0.0], [0.002], [0.01]], device=DEVICE)
    expected = truth(logits)[0]
    np.testing.assert_allclose(pairwise_js(logits, "triton").cpu(), expected, rtol=0.01, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_large_logits_cost_no_digits(shift: float) -> None:
    """A float32 normaliser near 100 has an error of 4e-6, which the token with all the mass would inherit."""
    logits = logits_of(3, 2, 2_000, gap=12.0, peak=12.0) + shift
    js, kl = by_kernel(logits)
    true_js, true_kl = truth(logits)
    np.testing.assert_allclose(js, true_js, rtol=0, atol=2e-7)
    np.testing.assert_allclose(kl, true_kl, rtol=1e-6, atol=1e-6)


def test_a_number_added_to_all_logits_changes_no_bit() -> None:
    logits = logits_of(3, 2, 500).bfloat16().float()
    for found, shifted in zip(by_kernel(logits), by_kernel(logits + 512.0), strict=True):
        np.testing.assert_array_equal(found, shifted)


def test_js_and_kl_of_a_scorer_and_itself_are_zero_and_js_is_symmetric() -> None:
    logits = logits_of(4, 2, 300)
    logits[3] = logits[1]
    js, kl = by_kernel(logits)
    assert not js[:, 1, 3].any()
    assert not js[:, 3, 1].any()
    assert np.abs(kl[:, 1, 3]).max() < 1e-7
    assert not js.diagonal(axis1=1, axis2=2).any()
    np.testing.assert_array_equal(js, js.swapaxes(1, 2))
    assert js.max() <= math.log(2)


def test_tokens_without_mass_are_allowed_and_make_kl_infinite() -> None:
    logits = logits_of(3, 2, 100)
    logits[0, 0, 5:50] = -math.inf
    logits[1, 1] = -math.inf
    logits[1, 1, 3] = 2.0
    logits[2, 1, 3] = torch.finfo(torch.float32).min  # masked with a large negative number: no mass, but finite
    js, kl = by_kernel(logits)
    reference = [each.cpu().numpy() for each in pairwise_divergence(logits, "torch")]
    np.testing.assert_allclose(js, reference[0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(np.isinf(kl), np.isinf(reference[1]))
    assert np.isinf(kl[0, 1, 0])
    assert not np.isnan(kl).any()


def test_disjoint_distributions_reach_ln_2() -> None:
    logits = torch.full((2, 1, 40), -60.0, device=DEVICE)
    logits[0, 0, 0] = logits[1, 0, 1] = 60.0
    for each in (logits, logits.masked_fill(logits < 0, -math.inf)):
        assert float(pairwise_js(each, "triton")[0, 0, 1]) == pytest.approx(math.log(2), abs=1e-6)


def test_other_positions_and_other_runs_change_no_bit() -> None:
    logits = logits_of(3, 5, 40_000 if CARD else 500)
    js, kl = by_kernel(logits)
    for _ in range(2):
        again = by_kernel(logits)
        np.testing.assert_array_equal(again[0], js)
        np.testing.assert_array_equal(again[1], kl)
    for cut in logits.tensor_split([1, 3], dim=1):
        place = int((logits == cut[:, :1]).all(-1).all(0).nonzero()[0])
        parts = by_kernel(cut)
        np.testing.assert_array_equal(parts[0], js[place : place + cut.shape[1]])
        np.testing.assert_array_equal(parts[1], kl[place : place + cut.shape[1]])


def test_views_of_larger_tensors_are_read_without_a_copy() -> None:
    large = logits_of(6, 4, 80)
    np.testing.assert_array_equal(by_kernel(large[::2, 1:3])[0], by_kernel(large[::2, 1:3].contiguous())[0])
    np.testing.assert_allclose(by_kernel(large[..., ::2])[0], truth(large[..., ::2])[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("bad", "found"), [(math.nan, "NaN"), (math.inf, r"\+inf"), (-math.inf, "only −inf")])
def test_the_error_for_invalid_logits_names_scorer_and_position(bad: float, found: str) -> None:
    logits = logits_of(3, 4, 10)
    logits[2, 1] = bad
    with pytest.raises(ValueError, match=f"scorer 2, position 1 contain {found}"):
        pairwise_divergence(logits, "triton")


def test_no_positions_are_allowed() -> None:
    js, kl = pairwise_divergence(logits_of(3, 2, 5)[:, :0], "triton")
    assert js.shape == kl.shape == (0, 3, 3)


@needs_cuda
def test_auto_uses_the_kernel_on_cuda_and_rejects_triton_on_a_cpu() -> None:
    logits = logits_of(3, 2, 500)
    assert torch.equal(pairwise_js(logits), pairwise_js(logits, "triton"))
    assert not torch.equal(pairwise_js(logits), pairwise_js(logits, "torch"))


@needs_cuda
def test_a_divergence_waits_for_kernels_compiled_ahead_and_is_unchanged() -> None:
    logits = logits_of(5, 3, 2048)
    expected = by_kernel(logits)
    compile_ahead(5, 2048, torch.float16, logits.device)
    js, _ = pairwise_divergence(logits.half(), "triton")
    np.testing.assert_allclose(js.cpu(), expected[0], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(by_kernel(logits)[0], expected[0])


@pytest.mark.parametrize(("scorers", "among"), [(5, [3]), (27, [20, 2]), (27, list(range(4, 14)))])
def test_pairs_among_some_scorers_are_those_of_all_pairs(scorers: int, among: list[int]) -> None:
    logits = logits_of(scorers, 1, 33, gap=2.0)
    whole, part = pairwise_divergence(logits, "triton"), pairwise_divergence(logits, "triton", among)
    wanted = torch.eye(scorers, dtype=torch.bool, device=logits.device)
    wanted[among] = wanted[:, among] = True
    for all_pairs, some in zip(whole, part, strict=True):
        torch.testing.assert_close(some[:, wanted], all_pairs[:, wanted], rtol=1e-6, atol=1e-9)
        assert bool(some[:, ~wanted].isnan().all())


def test_tiles_without_requested_scorers_are_left_out() -> None:
    from persona_assets.metrics.divergence_triton import _tiling

    every, some = (_tiling(111, torch.device("cpu"), among) for among in (None, (5, 60, 110)))
    assert every.pairs >= 111 * 110 / 2
    assert some.pairs < every.pairs / 5
