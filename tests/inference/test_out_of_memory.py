"""Tests of running out of memory: batch sizes halve, finished work is kept and results stay the same.

A test cannot exhaust the memory of a CPU, so a hook on a late layer replaces the allocator: it raises PyTorch's own
error when a batch has more than a given number of rows or tokens, after the earlier layers have run.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import (
    LoadedModel,
    PrefixScorer,
    Scored,
    Scorer,
    TransformersGenerator,
    choose_hardware,
    last_token_states,
    load_model,
)
from persona_assets.inference.out_of_memory import AdaptiveBatchSize
from persona_assets.inference.scoring.packed import PackedScorer
from persona_assets.study.settings import Decoding, Inference

PROMPTS = [[10, 20, 30], [40, 50], [60, 70, 80, 90], [11], [12, 13, 14, 15, 16]]
RESPONSES = [[5 + i for i in range(length)] for length in (11, 3, 16)]
WORK = [Scored(PROMPTS, response) for response in RESPONSES]
SAMPLED = Decoding(method="sampled", max_new_tokens=8, seed=1)


@pytest.fixture
def tiny(tiny_directory: Path) -> LoadedModel:
    return load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))


class Allocator:
    """Fake allocator that fails if a dimension of a module's input exceeds `room`, and records all sizes."""

    def __init__(self, room: int, dimension: int) -> None:
        self.room, self.dimension = room, dimension
        self.asked: list[int] = []

    def __call__(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.asked.append(inputs[0].shape[self.dimension])
        if self.asked[-1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than the test allows.")


@contextmanager
def limited(module: nn.Module, room: int, dimension: int) -> Iterator[Allocator]:
    allocator = Allocator(room, dimension)
    handle = module.register_forward_pre_hook(allocator)
    try:
        yield allocator
    finally:
        handle.remove()


def last_block(loaded: LoadedModel) -> nn.Module:
    """Return the last block; when it fails, the earlier blocks have already added a piece to the cache."""
    block: nn.Module = loaded.model.model.layers[-1]
    return block


def scored(scorer: Scorer, work: list[Scored]) -> list[list[Tensor]]:
    return [list(pieces) for pieces in scorer.logits(work)]


def whole_each(pieces: list[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(each, dim=1) for each in pieces]


def whole(pieces: list[list[Tensor]]) -> Tensor:
    return torch.cat(whole_each(pieces), dim=1)


def positions(pieces: list[list[Tensor]]) -> list[list[int]]:
    return [[piece.shape[1] for piece in each] for each in pieces]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        r.getMessage()
        for r in caplog.records
        if r.name == AdaptiveBatchSize.__module__ and r.levelno == logging.WARNING
    ]


# The batch size itself


def test_finished_work_is_kept_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    room, done = 8, list[int]()

    def work(part: slice) -> list[int]:
        if part.stop - part.start > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        done.extend(range(part.start, part.stop))
        return done[-(part.stop - part.start) :]

    at_once = AdaptiveBatchSize("counting", "numbers")
    for count, _ in enumerate(at_once.slices(50, 16, work)):
        room = 3 if count == 1 else room
    assert done == list(range(50))
    assert at_once.size == 2
    assert said(caplog) == [
        "counting: out of memory with 16 numbers at once; continuing with 8, "
        "and halving again if that is still too many"
    ]


def test_memory_of_a_failed_attempt_is_freed_before_the_retry() -> None:
    from weakref import ref

    class Block:
        pass

    alive: list[ref[Block]] = []

    def work(part: slice) -> int:
        assert all(block() is None for block in alive)
        block = Block()
        alive.append(ref(block))
        if part.stop - part.start > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1

    assert sum(AdaptiveBatchSize("counting", "numbers").slices(3, 4, work)) == 3


@pytest.mark.parametrize(
    "message",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to …",
        "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried to …",
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_out_of_memory_errors_of_all_libraries_are_recognised(message: str) -> None:
    sizes: list[int] = []

    def work(part: slice) -> int:
        sizes.append(part.stop - part.start)
        if sizes[-1] > 1:
            raise RuntimeError(message)
        return 1

    assert list(AdaptiveBatchSize("counting", "numbers").slices(2, 2, work)) == [1, 1]
    assert sizes == [2, 1, 1]


def test_the_cpu_allocators_error_is_recognised() -> None:
    """If this fails, PyTorch has changed its message and `out_of_memory._OOM_MESSAGES` needs the new one."""
    sizes: list[int] = []

    def work(part: slice) -> int:
        sizes.append(part.stop - part.start)
        return torch.empty(1 << 60 if sizes[-1] > 1 else 1).ndim

    assert list(AdaptiveBatchSize("counting", "numbers").slices(2, 2, work)) == [1, 1]


def test_other_errors_are_not_retried() -> None:
    calls: list[slice] = []

    def work(part: slice) -> int:
        calls.append(part)
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        list(AdaptiveBatchSize("counting", "numbers").slices(8, 8, work))
    assert len(calls) == 1


# Responses


@pytest.mark.parametrize("decoding", [Decoding(max_new_tokens=8), SAMPLED], ids=lambda decoding: decoding.method)
def test_smaller_batches_generate_the_same_responses(
    tiny: LoadedModel, decoding: Decoding, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = PROMPTS + PROMPTS  # the same prompt in another row gives another sample
    expected = TransformersGenerator(tiny).generate(prompts, decoding)
    generator = TransformersGenerator(tiny)
    with limited(last_block(tiny), 3, dimension=0) as allocator:
        assert generator.generate(prompts, decoding) == expected
        assert list(dict.fromkeys(allocator.asked)) == [5, 2]  # ten rows ask for five distinct prompts first
        allocator.asked.clear()
        assert generator.generate(prompts, decoding) == expected
        assert set(allocator.asked) == {2}
    assert len(said(caplog)) == 1
    assert "writing responses: out of memory with 10 rows at once" in said(caplog)[0]


def test_a_single_row_that_does_not_fit_is_an_error(tiny: LoadedModel) -> None:
    with (
        limited(last_block(tiny), 0, dimension=0),
        pytest.raises(
            torch.OutOfMemoryError, match="writing responses: out of memory with rows at once: 1, the minimum"
        ),
    ):
        TransformersGenerator(tiny).generate(PROMPTS, SAMPLED)


# Hidden states


def test_smaller_batches_give_the_same_hidden_states(tiny: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    expected = last_token_states(tiny, PROMPTS, [0, 2])
    with limited(last_block(tiny), 2, dimension=0) as allocator:
        close(last_token_states(tiny, PROMPTS, [0, 2]), expected)
        close(last_token_states(tiny, PROMPTS, [0, 2]), expected)
    assert allocator.asked == [5, 2, 2, 1, 2, 2, 1]
    assert len(said(caplog)) == 1
    assert not any(module._forward_hooks for module in tiny.model.modules())


def test_a_single_prompt_that_does_not_fit_is_an_error(tiny: LoadedModel) -> None:
    with (
        limited(last_block(tiny), 0, dimension=0),
        pytest.raises(torch.OutOfMemoryError, match="reading hidden states: out of memory with prompts at once: 1"),
    ):
        last_token_states(tiny, PROMPTS, [0])


# Scores of the prefix scorer


def test_a_response_in_halved_pieces_gets_the_same_scores(
    tiny: LoadedModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 12)
    scorer, small = PrefixScorer(tiny), PrefixScorer(tiny)
    expected = scored(PrefixScorer(tiny), WORK)
    with limited(last_block(tiny), 4, dimension=1):
        found = scored(scorer, WORK)
    assert positions(found) == [[2] * 5 + [1], [2, 1], [2] * 8]  # 11 → 5 → 2
    close(whole(found), whole(expected))
    assert scorer.plan["positions_at_once"] == 2
    assert len(said(caplog)) == 1
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 2)
    assert torch.equal(whole(found), whole(scored(small, WORK)))


@pytest.mark.parametrize("room", [3, 2, 1])
def test_yielded_pieces_are_kept_and_only_the_rest_is_retried(
    tiny: LoadedModel, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program takes memory in the middle of a response; halving 5 to 2 shifts the piece boundaries."""
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 5)
    (expected,) = scored(PrefixScorer(tiny), WORK[2:])
    with limited(last_block(tiny), 5, dimension=1) as allocator:
        (pieces,) = PrefixScorer(tiny).logits(WORK[2:])
        found = [next(pieces)]
        allocator.room = room
        found += pieces
    assert [piece.shape[1] for piece in found][:3] == [5, *([1, 2] if room > 1 else [1, 1])]
    close(torch.cat(found, dim=1), torch.cat(expected, dim=1))


def test_prompts_that_do_not_fit_are_read_in_pieces(
    tiny: LoadedModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 1)
    expected = scored(PrefixScorer(tiny), WORK)
    with limited(last_block(tiny), 1, dimension=1) as allocator:
        close(whole(scored(PrefixScorer(tiny), WORK)), whole(expected))
    assert allocator.asked[:6] == [4, 2, 1, 1, 1, 1]
    assert [message.split(":")[0] for message in said(caplog)] == ["reading prompts"]


def test_a_single_position_that_does_not_fit_is_an_error(tiny: LoadedModel) -> None:
    with (
        limited(tiny.model.lm_head, 0, dimension=1),
        pytest.raises(
            torch.OutOfMemoryError, match="reading prompts: out of memory with positions at once: 1, the minimum"
        ),
    ):
        scored(PrefixScorer(tiny), WORK)
    with (
        limited(tiny.model.lm_head, 0, dimension=1),
        pytest.raises(torch.OutOfMemoryError, match="scoring: out of memory with positions at once: 1, the minimum"),
    ):
        # Prompts of one token have no prefix to read.
        scored(PrefixScorer(tiny), [Scored([[11], [12]], RESPONSES[0])])


def test_deterministic_scoring_keeps_its_batch_sizes_or_fails(
    tiny: LoadedModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scorer in (PrefixScorer(tiny, deterministic=True), PackedScorer(tiny, deterministic=True)):
        expected = scored(scorer, WORK)
        with limited(tiny.model.model.embed_tokens, 10, dimension=-1) as allocator:
            (done,) = scored(scorer, WORK[1:2])
            assert torch.equal(done[0], expected[1][0])
            with pytest.raises(torch.OutOfMemoryError, match="a size fixed by `deterministic: true`; remove it"):
                scored(scorer, WORK[:1])
            assert max(allocator.asked) == len(RESPONSES[0])
        assert all(
            torch.equal(*each) for each in zip(whole_each(scored(scorer, WORK)), whole_each(expected), strict=True)
        )
    assert not said(caplog)


# Scores of the packed scorer


def test_smaller_chunks_score_the_same(tiny: LoadedModel, caplog: pytest.LogCaptureFixture) -> None:
    expected = scored(PackedScorer(tiny), WORK)
    scorer = PackedScorer(tiny, tokens_at_once=4096)
    with limited(tiny.model.model.embed_tokens, 40, dimension=-1) as allocator:
        close(whole(scored(scorer, WORK)), whole(expected))
        assert allocator.asked[:2] == [10, 150]  # the prompts, then all responses
        failed = [asked for asked in allocator.asked if asked > 40]
        assert len(failed) == 2
        assert sum(allocator.asked) == 10 + 150 + sum(failed)  # no finished work is repeated
        size = int(scorer.plan["scorer"].split()[1])
        assert 16 <= size <= 40
        allocator.asked.clear()
        close(whole(scored(scorer, WORK)), whole(expected))
        assert max(allocator.asked) <= size
    assert len(said(caplog)) == 1
    assert "scoring: out of memory with 150 tokens at once" in said(caplog)[0]


def test_scored_chunks_are_kept_when_a_later_one_does_not_fit(tiny: LoadedModel) -> None:
    expected = scored(PackedScorer(tiny), WORK)
    with limited(tiny.model.model.embed_tokens, 64, dimension=-1) as allocator:
        responses = PackedScorer(tiny, tokens_at_once=64).logits(WORK)
        found = [list(next(responses))]
        allocator.room = 20
        found += map(list, responses)
    close(whole(found), whole(expected))


def test_prompts_are_read_in_smaller_chunks(tiny: LoadedModel) -> None:
    expected = scored(PackedScorer(tiny), WORK)
    with limited(tiny.model.model.embed_tokens, 16, dimension=-1) as allocator:
        long = [Scored([*PROMPTS, list(range(20, 37))], each.response) for each in WORK]
        found = scored(PackedScorer(tiny), long)
    assert allocator.asked[0] == 26
    close(whole(found)[:5], whole(expected))


def test_a_single_sequence_that_does_not_fit_is_an_error(tiny: LoadedModel) -> None:
    with (
        limited(tiny.model.model.embed_tokens, 2, dimension=-1),
        pytest.raises(torch.OutOfMemoryError, match="scoring: out of memory with tokens at once: 1, the minimum"),
    ):
        scored(PackedScorer(tiny), WORK)


def test_packed_logits_come_in_halved_pieces(
    tiny: LoadedModel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, scorer = scored(PackedScorer(tiny), WORK), PackedScorer(tiny)
    unlimited = scorer._logits

    def logits(piece: Tensor) -> Any:
        if piece.shape[1] > 6:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return unlimited(piece)

    monkeypatch.setattr(scorer, "_logits", logits)
    found = scored(scorer, WORK)
    assert positions(found) == [[5, 5, 1], [3], [5, 5, 5, 1]]
    close(whole(found), whole(expected))
    assert scorer.plan["positions_at_once"] == 5
    assert len(said(caplog)) == 1


# A GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_full_gpu_scores_the_same_in_smaller_chunks(tiny_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded = load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cuda")))
    random = torch.Generator().manual_seed(1)
    work = [
        Scored([prompt * 40 for prompt in PROMPTS], torch.randint(3, 250, (1024,), generator=random).tolist())
        for _ in range(48)
    ]
    unlimited = PackedScorer(loaded, tokens_at_once=1 << 18)

    def means(scorer: Scorer) -> Tensor:
        return torch.stack(
            [torch.cat([piece.float().logsumexp(-1) for piece in each], 1) for each in scorer.logits(work)]
        ).cpu()

    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    expected = means(unlimited)
    needed = torch.cuda.max_memory_allocated() - before
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    scorer = PackedScorer(loaded, tokens_at_once=1 << 18)
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + needed / 2) / total)
        found = means(scorer)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)
    assert int(scorer.plan["scorer"].split()[1]) < 1 << 18
    assert len(said(caplog)) == 1
