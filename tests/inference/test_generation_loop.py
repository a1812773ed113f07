"""Tests of the generation loop against `generate` of Transformers: less work, the same tokens."""

from pathlib import Path

import pytest
import torch

from benchmarks.sampling import by_transformers
from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, TransformersGenerator, choose_hardware, load_model
from persona_assets.inference.sampling import TokenChooser, draw, draw_in_float64
from persona_assets.study.settings import Decoding, Inference
from tests.inference.families import write_family

# Repeated prompts and prompts of several lengths.
PROMPTS = [[10, 20, 30], [40, 50], [10, 20, 30], [60, 70, 80, 90], [11], [40, 50], [12, 13, 14, 15, 16, 17], [11], [11]]
GREEDY = Decoding(max_new_tokens=24)
SAMPLED = Decoding(method="sampled", max_new_tokens=24, seed=3)
NUCLEUS = Decoding(method="sampled", max_new_tokens=24, seed=5, temperature=0.7, top_p=0.9)


def load(directory: Path) -> LoadedModel:
    return load_model(
        Checkpoint(name="tiny", path=directory), choose_hardware(Inference(device="cpu")), lambda line: None
    )


@pytest.fixture
def many_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a tenth of the tokens end a reply, so that rows end at different times."""
    monkeypatch.setattr(LoadedModel, "stop_ids", property(lambda loaded: list(range(2, loaded.vocabulary, 10))))


@pytest.mark.usefixtures("many_stops")
@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED, NUCLEUS], ids=["greedy", "sampled", "nucleus"])
# Grouped queries; windows and soft caps; chunks; latent attention; positions by a bias.
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "llama4_text", "deepseek_v3", "bloom"])
def test_tokens_are_those_of_transformers(tmp_path: Path, family: str, decoding: Decoding) -> None:
    write_family(tmp_path, family)
    loaded = load(tmp_path)
    found = [reply.token_ids for reply in TransformersGenerator(loaded).generate(PROMPTS, decoding)]
    assert found == by_transformers(loaded, PROMPTS, decoding)
    assert loaded.model.config._attn_implementation in ("sdpa", "eager")  # as it was


@pytest.fixture
def tiny(tiny_directory: Path) -> LoadedModel:
    return load(tiny_directory)


class Fed:
    """Number of rows of every forward pass."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.rows: list[int] = []
        loaded.model.get_input_embeddings().register_forward_pre_hook(
            lambda _, inputs: self.rows.append(len(inputs[0]))
        )


def test_repeated_prompts_are_read_once(tiny: LoadedModel) -> None:
    fed = Fed(tiny)
    TransformersGenerator(tiny).generate(PROMPTS, Decoding(method="sampled", max_new_tokens=2))
    assert fed.rows == [5, 9]


@pytest.mark.usefixtures("many_stops")
def test_ended_rows_leave_the_batch(tiny: LoadedModel) -> None:
    fed, rows = Fed(tiny), [[10, 20, 30]] * 64
    replies = TransformersGenerator(tiny).generate(rows, SAMPLED)
    running = [sum(len(reply.token_ids) > step for reply in replies) for step in range(1, 24)]
    expected = [count for count in running if count]
    assert fed.rows[1:] == sorted(fed.rows[1:], reverse=True)
    assert all(count <= have <= max(2, count * 8 / 7 + 1) for count, have in zip(expected, fed.rows[1:], strict=True))


def test_progress_ends_with_everything_done(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LoadedModel, "rows_at_once", lambda loaded, tokens: 4)
    told: list[tuple[int, int]] = []
    TransformersGenerator(tiny).generate(PROMPTS, SAMPLED, lambda done, total: told.append((done, total)))
    every = len(PROMPTS) * SAMPLED.max_new_tokens
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (every, every)
    assert {total for _, total in told} == {every}


def test_rows_draw_the_same_numbers_in_any_batch() -> None:
    logits = torch.zeros(3, 4096)
    together = TokenChooser(SAMPLED, [0, 7, 9])
    alone = TokenChooser(SAMPLED, [7])
    for step in range(3):
        expected = together(logits, step, torch.tensor([0, 1, 2]))[1]
        assert alone(logits[:1], step, torch.tensor([0]))[0] == expected


@pytest.mark.parametrize("vocabulary", [1, 7, 256, 257, 5000])
def test_a_draw_in_float32_is_that_in_float64(vocabulary: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    scores = 4 * torch.randn(400, vocabulary, generator=generator)
    scores[::3] = scores[::3].masked_fill(torch.rand(vocabulary, generator=generator) < 0.5, -torch.inf)
    scores[::3, 0] = 0.0
    drawn = torch.rand(400, generator=generator, dtype=torch.float64)
    # Numbers on the limits between tokens, where rounding in float32 would decide.
    limits = scores.double().softmax(-1).cumsum(-1)
    middle = limits[:, vocabulary // 2]
    drawn[1::4] = middle[1::4]
    drawn[2::4] = torch.nextafter(middle, torch.zeros_like(middle))[2::4]
    drawn = drawn.clamp(0.0, 1 - 1e-16)
    assert torch.equal(draw(scores, drawn), draw_in_float64(scores, drawn))
    assert (scores.gather(1, draw(scores, drawn)[:, None]) > -torch.inf).all()
