"""Divergence of one response, computed from chunks of logits."""

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from persona_assets.metrics import divergence_of_response, pairwise_divergence

K, T, V = 4, 9, 60


@pytest.fixture
def logits() -> Tensor:
    return 2 * torch.randn(K, T, V, generator=torch.Generator().manual_seed(0))


def test_a_response_is_the_plain_mean_over_its_tokens(logits: Tensor) -> None:
    js, kl = (values.numpy() for values in pairwise_divergence(logits))
    response = divergence_of_response([logits], generator=2)
    np.testing.assert_allclose(response.js, js.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(response.kl, kl.mean(axis=0), rtol=1e-15)
    assert response.js.dtype == response.token_kl.dtype == np.float64


def test_tokens_keep_the_generator_against_every_scorer(logits: Tensor) -> None:
    js, kl = (values.numpy() for values in pairwise_divergence(logits))
    response = divergence_of_response([logits], generator=2)
    np.testing.assert_array_equal(response.token_js, js[:, 2, :])
    np.testing.assert_array_equal(response.token_kl, kl[:, 2, :])
    np.testing.assert_array_equal(response.token_kl_reverse, kl[:, :, 2])
    assert not response.token_js[:, 2].any()


@pytest.mark.parametrize("cuts", [[1], [4, 5], [3, 3, 8], list(range(1, T))])
def test_chunk_boundaries_change_no_bit(logits: Tensor, cuts: list[int]) -> None:
    whole = divergence_of_response([logits], generator=0)
    cut = divergence_of_response(torch.tensor_split(logits, cuts, dim=1), generator=0)
    for name in ("js", "kl", "token_js", "token_kl", "token_kl_reverse"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(cut, name), err_msg=name)


def test_chunks_are_consumed_one_at_a_time(logits: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def chunks() -> Iterator[Tensor]:
        for part in logits.split(3, dim=1):
            events.append("made")
            yield part

    def measured(chunk: Tensor, among: None) -> tuple[Tensor, Tensor]:
        events.append("measured")
        return pairwise_divergence(chunk)

    monkeypatch.setattr("persona_assets.metrics.response.pairwise_divergence", measured)
    divergence_of_response(chunks(), generator=0)
    assert events == ["made", "measured"] * 3


@pytest.mark.parametrize("chunks", [[], [torch.zeros(K, 0, V)]])
def test_an_empty_response_is_rejected(chunks: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        divergence_of_response(chunks, generator=0)


def test_an_error_says_where_in_the_response_its_chunk_starts(logits: Tensor) -> None:
    logits[1, 7] = torch.nan
    with pytest.raises(ValueError, match=r"chunk 1, which starts at token 5: .*scorer 1, position 2 contain NaN"):
        divergence_of_response(logits.split(5, dim=1), generator=0)


@pytest.mark.parametrize("generator", [-1, K])
def test_a_generator_must_be_one_of_the_scorers(logits: Tensor, generator: int) -> None:
    with pytest.raises(ValueError, match=f"generator is {generator}"):
        divergence_of_response([logits], generator)


def test_chunks_must_agree_on_the_scorers(logits: Tensor) -> None:
    with pytest.raises(ValueError, match="chunk 1 has 3 scorers; expected 4"):
        divergence_of_response([logits, logits[:3]], generator=0)


def test_means_are_bit_identical_to_those_over_all_tokens(logits: Tensor) -> None:
    js, kl = (values.numpy() for values in pairwise_divergence(logits))
    response = divergence_of_response(logits.split(2, dim=1), generator=1)
    np.testing.assert_array_equal(response.js, js.mean(axis=0))  # stored artefacts were computed this way
    np.testing.assert_array_equal(response.kl, kl.mean(axis=0))


def test_memory_does_not_grow_with_tokens_times_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    scorers, tokens, at_once = 40, 200, 4
    pairs = 8 * scorers * scorers

    def of_chunk(chunk: Tensor, among: None) -> tuple[Tensor, Tensor]:
        js, kl = np.random.default_rng(0).random((2, chunk.shape[1], scorers, scorers))
        return torch.from_numpy(js), torch.from_numpy(kl)

    monkeypatch.setattr("persona_assets.metrics.response.pairwise_divergence", of_chunk)
    tracemalloc.start()  # tracks NumPy's arrays but not PyTorch's
    divergence_of_response((torch.zeros(scorers, at_once, 1) for _ in range(tokens // at_once)), generator=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = 2 * pairs + 3 * 8 * tokens * scorers
    assert kept / 2 < peak < 2 * kept + 4 * at_once * pairs < 2 * tokens * pairs / 3
