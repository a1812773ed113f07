"""Tests of teacher-forcing with cached prefixes against a plain forward pass per prompt."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from persona_assets.inference import LoadedModel, PrefixScorer, Scored, choose_scorer
from persona_assets.study.files import load_study


@pytest.fixture(scope="module")
def prompts(embedded: LoadedModel) -> list[list[int]]:
    """Prompts of three personas, with different lengths."""
    study = load_study()
    ids = [embedded.chat.prompt_ids(prompt, study.questions[0]) for prompt in study.prompts.values()]
    assert len(set(map(len, ids))) > 1
    return ids


@pytest.fixture(scope="module")
def response(embedded: LoadedModel) -> list[int]:
    ids: list[int] = embedded.chat.tokenizer("Managing stress is easy once you rule the world.")["input_ids"][:8]
    return ids


@torch.inference_mode()
def plain(loaded: LoadedModel, prompts: Sequence[Sequence[int]], response: Sequence[int]) -> Tensor:
    """Compute log-probabilities directly; response position t is predicted at position len(prompt) + t − 1."""
    rows = []
    for prompt in prompts:
        logits = loaded.model(torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
        rows.append(logits[len(prompt) - 1 : -1])
    return torch.stack(rows)


def scored(scorer: PrefixScorer, prompts: Sequence[Sequence[int]], response: Sequence[int]) -> Tensor:
    (pieces,) = (list(each) for each in scorer.logits([Scored(prompts, response)]))
    return torch.cat(pieces, dim=1)


# Error of float32 logits up to 15: 8e-5 on one processor, 1.4e-4 on another with a different summation order.
ROUNDING = 3e-4


def largest_gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def test_scores_equal_plain_teacher_forcing(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int]
) -> None:
    found = scored(PrefixScorer(embedded), prompts, response)
    assert found.shape == (3, 8, embedded.model.config.vocab_size)
    assert found.dtype == torch.float32
    assert largest_gap(found, plain(embedded, prompts, response)) <= ROUNDING


def test_responses_are_scored_in_order(embedded: LoadedModel, prompts: list[list[int]], response: list[int]) -> None:
    work = [Scored(prompts, response[:3]), Scored(prompts[:2], response), Scored(prompts, response)]
    found = [torch.cat(list(pieces), dim=1) for pieces in PrefixScorer(embedded).logits(work)]
    for each, logits in zip(work, found, strict=True):
        assert torch.equal(logits, scored(PrefixScorer(embedded), each.prompts, each.response))


def test_deterministic_scores_do_not_depend_on_the_batch(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int]
) -> None:
    scorer = PrefixScorer(embedded, deterministic=True)
    together = scored(scorer, prompts, response)
    assert largest_gap(together, plain(embedded, prompts, response)) <= 5e-4
    for number, prompt in enumerate(prompts):
        assert torch.equal(scored(PrefixScorer(embedded, deterministic=True), [prompt], response)[0], together[number])


def test_cpu_uses_the_prefix_scorer(embedded: LoadedModel) -> None:
    if embedded.device.type == "cpu":
        assert isinstance(choose_scorer(embedded), PrefixScorer)


def test_a_response_fed_in_pieces_is_scored_the_same(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = scored(PrefixScorer(embedded), prompts, response)
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 3)
    scorer = PrefixScorer(embedded)
    (pieces,) = (list(each) for each in scorer.logits([Scored(prompts, response)]))
    assert scorer.plan["positions_at_once"] == 3
    assert [piece.shape[1] for piece in pieces] == [3, 3, 2]
    assert largest_gap(torch.cat(pieces, dim=1), whole) <= ROUNDING


def test_a_cached_prefix_is_not_modified_by_use(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int]
) -> None:
    scorer = PrefixScorer(embedded)
    first = scored(scorer, prompts, response)
    scored(scorer, prompts, response[::-1] * 2)
    next(next(scorer.logits([Scored(prompts, response[3:])])))  # a caller that stops in the middle
    assert torch.equal(scored(scorer, prompts, response), first)


def test_an_evicted_prefix_is_recomputed(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "free_memory", lambda _: 0)
    monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_: 100)
    scorer = PrefixScorer(embedded)
    first = scored(scorer, prompts[:2], response)
    scored(scorer, prompts[1:], response)
    assert torch.equal(scored(scorer, prompts[:2], response), first)


def test_scores_the_ids_that_were_generated(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    tokenizer = embedded.chat.tokenizer
    spelled = [tokenizer(letter)["input_ids"][0] for letter in "stress"]
    assert tokenizer(tokenizer.decode(spelled))["input_ids"] != spelled  # re-tokenising would change the ids
    found = scored(PrefixScorer(embedded), prompts, spelled)
    assert largest_gap(found, plain(embedded, prompts, spelled)) <= ROUNDING


def test_every_scorer_has_its_own_distribution(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int]
) -> None:
    found = scored(PrefixScorer(embedded), prompts, response)
    assert largest_gap(found[1], found[0]) > 0.1
    assert largest_gap(scored(PrefixScorer(embedded), prompts[::-1], response), found.flip(0)) <= ROUNDING


@pytest.mark.parametrize("lengths", [(1, 1), (1, 7)], ids=["no prefix", "one without prefix"])
def test_a_prompt_of_one_token_has_no_prefix(
    embedded: LoadedModel, prompts: list[list[int]], response: list[int], lengths: tuple[int, int]
) -> None:
    short = [prompt[:length] for prompt, length in zip(prompts, lengths, strict=False)]
    found = scored(PrefixScorer(embedded), short, response)
    assert largest_gap(found, plain(embedded, short, response)) <= ROUNDING


def test_a_response_of_one_token_is_scored_at_the_end_of_the_prompt(
    embedded: LoadedModel, prompts: list[list[int]]
) -> None:
    assert largest_gap(scored(PrefixScorer(embedded), prompts, [2]), plain(embedded, prompts, [2])) <= ROUNDING


def test_an_empty_response_is_rejected(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="no tokens; expected at least one"):
        scored(PrefixScorer(embedded), prompts, [])
