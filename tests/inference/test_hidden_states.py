"""Tests of hidden states against those of Transformers: layer N is the output of block N."""

import pytest
import torch
from torch import Tensor, nn

from persona_assets.inference import LoadedModel, last_token_states
from persona_assets.study.files import load_study

BLOCKS = [0, 16, 28]
LAST = 29


@pytest.fixture(scope="module")
def prompts(embedded: LoadedModel) -> list[list[int]]:
    """Prompts of three personas, with different lengths."""
    study = load_study()
    ids = [embedded.chat.prompt_ids(prompt, study.questions[0]) for prompt in study.prompts.values()]
    assert len(set(map(len, ids))) > 1
    return ids


@torch.inference_mode()
def hidden_states(loaded: LoadedModel, prompt: list[int]) -> tuple[Tensor, ...]:
    states: tuple[Tensor, ...] = loaded.model(torch.tensor([prompt]), output_hidden_states=True).hidden_states
    return tuple(layer[0, -1] for layer in states)


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_layer_n_is_hidden_states_n_plus_1_at_the_last_token(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    found = last_token_states(embedded, prompts, BLOCKS)
    assert (found.shape, found.dtype, found.device.type) == ((3, 3, 576), torch.float32, "cpu")
    for row, prompt in zip(found, prompts, strict=True):
        states = hidden_states(embedded, prompt)
        expected = torch.stack([states[block + 1] for block in BLOCKS])
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-3)


def test_the_last_block_is_read_before_the_final_norm(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    (state,) = last_token_states(embedded, prompts[:1], [LAST])[0]
    expected = hidden_states(embedded, prompts[0])[-1]
    torch.testing.assert_close(embedded.model.model.norm(state), expected, rtol=0, atol=1e-3)
    assert (state - expected).abs().max() > 1


def test_padding_does_not_matter(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    together = last_token_states(embedded, prompts, BLOCKS)
    alone = torch.cat([last_token_states(embedded, [prompt], BLOCKS) for prompt in prompts])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


def test_blocks_are_returned_in_the_requested_order(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    found = last_token_states(embedded, prompts, BLOCKS)
    assert torch.equal(last_token_states(embedded, prompts, BLOCKS[::-1]), found.flip(1))


def test_hooks_are_removed_even_after_an_error(embedded: LoadedModel, prompts: list[list[int]]) -> None:
    before = n_hooks(embedded.model)
    last_token_states(embedded, prompts[:1], BLOCKS)
    assert n_hooks(embedded.model) == before
    with pytest.raises(IndexError):
        last_token_states(embedded, [[embedded.model.config.vocab_size]], BLOCKS)
    assert n_hooks(embedded.model) == before
