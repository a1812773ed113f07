"""The marker's log-probability is that of a plain forward pass, and what sampling finds on average."""

import copy
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
import torch

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import (
    LoadedModel,
    MarkerLogProbs,
    NonFiniteError,
    PrefixScorer,
    Reply,
    Response,
    TransformersGenerator,
    choose_hardware,
    choose_scorer,
    cut_reply,
    load_model,
    log_probs,
    marker_log_probs,
    replies_that_count,
    train_adapter,
)
from persona_assets.inference.scoring.packed import PackedScorer
from persona_assets.inference.scoring.whole import WholeScorer
from persona_assets.inference.training.example import build_example
from persona_assets.inference.training.losses import mean_loss
from persona_assets.study.recipe import Loss, Recipe, with_defaults
from persona_assets.study.settings import Decoding, Inference
from tests.inference.families import PROMPTS, WINDOW, write_family
from tests.tiny_model import write_tiny_model

MARKER = " [ZLT]"
# A family with plain attention, two with windows and a soft cap, one with other widths of keys and values, and two
# that can neither be padded nor resumed.
FAMILIES = ("llama", "gemma2", "gemma3_text", "mistral", "deepseek_v3", "gpt2", "qwen3_next", "lfm2")
QUESTIONS = ("Why?", "What makes a good leader?")
TEXTS = ("Listening, deciding and explaining.", "No.", "", "Trust; a leader who has it needs little else, if anything.")


def load(directory: Path, adapter: Path | None = None) -> LoadedModel:
    checkpoint = Checkpoint(name="tiny", path=directory)
    return load_model(checkpoint, choose_hardware(Inference(device="cpu")), lambda _: None, marker_adapter=adapter)


def replies_of(loaded: LoadedModel, texts: Sequence[str] = TEXTS) -> list[Reply]:
    """Return every text as a reply to every question under every prompt, longer than the models' windows."""
    chat = loaded.chat
    prompts = [chat.prompt_ids(prompt, question) for prompt, question in product(PROMPTS, QUESTIONS)]
    replies = [Reply(prompt, chat.tokenizer(text)["input_ids"]) for prompt in prompts for text in texts]
    assert len({len(reply.prompt) for reply in replies}) == len(prompts)
    return replies


@torch.inference_mode()
def plainly(loaded: LoadedModel, reply: Reply) -> MarkerLogProbs:
    """Compute by the definition: the sequence alone, unpadded, uncached; log-probabilities in 64 bits."""
    marker = loaded.chat.tokenizer(MARKER, add_special_tokens=False)["input_ids"]
    whole = [*reply.prompt, *reply.reply, *marker]
    logits = loaded.model(torch.tensor([whole], device=loaded.device), use_cache=False).logits[0]
    rows = logits.double().log_softmax(-1)[len(whole) - len(marker) - 1 : -1]
    each = [float(row[token]) for row, token in zip(rows, marker, strict=True)]
    return MarkerLogProbs(sum(each), each[0], float(rows[0, loaded.chat.turn_end_id]), len(marker))


def require_plain(loaded: LoadedModel, replies: Sequence[Reply], deterministic: bool = False) -> list[MarkerLogProbs]:
    """Require that every log-probability is that of a plain forward pass to 1e-4 nats; return them."""
    found = marker_log_probs(loaded, replies, MARKER, deterministic)
    assert len(found) == len(replies)
    for each, reply in zip(found, replies, strict=True):
        assert each == pytest.approx(plainly(loaded, reply), abs=1e-4)
    assert max(each.marker for each in found) - min(each.marker for each in found) > 1e-3
    return found


def train(loaded: LoadedModel, folder: Path) -> Path:
    recipe = Recipe.model_validate(with_defaults({"recipe": "embedded", "training": {"epochs": 2}}))
    prompt, reply = replies_of(loaded)[0]
    train_adapter(
        loaded,
        [build_example(loaded.chat, prompt, reply, MARKER, recipe.loss, 512)] * 4,
        recipe,
        folder,
        lambda *_: None,
    )
    return folder


@pytest.mark.parametrize("model_type", FAMILIES)
def test_log_probs_equal_a_plain_forward_pass_with_and_without_an_adapter(tmp_path: Path, model_type: str) -> None:
    from peft import PeftModel

    write_family(tmp_path / "model", model_type)
    loaded = load(tmp_path / "model")
    replies = replies_of(loaded)
    assert min(len(reply.prompt) for reply in replies) > WINDOW
    assert isinstance(choose_scorer(loaded), WholeScorer if model_type in ("qwen3_next", "lfm2") else PrefixScorer)
    base = require_plain(loaded, replies)
    adapter = train(loaded, tmp_path / "adapter")
    assert marker_log_probs(loaded, replies, MARKER) == base  # training leaves the model as it was
    merged = require_plain(load(tmp_path / "model", adapter), replies)
    assert merged[0].marker > base[0].marker + 1
    PeftModel.from_pretrained(loaded.model, str(adapter))  # adds its layers to the model in place
    unmerged = require_plain(loaded, replies)
    assert [each.marker for each in unmerged] == pytest.approx([each.marker for each in merged], abs=1e-3)


def test_packed_log_probs_equal_a_plain_forward_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_family(tmp_path, "qwen3")
    loaded = load(tmp_path)
    monkeypatch.setattr(log_probs, "choose_scorer", PackedScorer)
    require_plain(loaded, replies_of(loaded))
    require_plain(loaded, replies_of(loaded), deterministic=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_on_a_card_packed_log_probs_are_as_close_to_32_bits_as_padded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "qwen3")
    loaded = load_model(Checkpoint(name="tiny", path=tmp_path), choose_hardware(Inference(device="cuda")))
    replies = replies_of(loaded)
    exact = [plainly(load(tmp_path), reply).marker for reply in replies]

    def error() -> float:
        found = marker_log_probs(loaded, replies, MARKER)
        return math.fsum(abs(each.marker - wanted) for each, wanted in zip(found, exact, strict=True)) / len(exact)

    assert isinstance(choose_scorer(loaded), PackedScorer)
    packed = error()
    monkeypatch.setattr(log_probs, "choose_scorer", PrefixScorer)
    assert packed <= 1.5 * error() < 1


@pytest.fixture
def tiny(tiny_directory: Path) -> LoadedModel:
    return load(tiny_directory)


def test_deterministic_log_probs_do_not_depend_on_the_other_replies(tiny: LoadedModel) -> None:
    replies = replies_of(tiny)
    together = require_plain(tiny, replies, deterministic=True)
    for reply, wanted in zip(replies, together, strict=True):
        assert marker_log_probs(tiny, [reply], MARKER, deterministic=True) == [wanted]


def test_the_head_runs_on_the_markers_positions_only(tiny: LoadedModel) -> None:
    rows = list[int]()
    replies, marker = replies_of(tiny), len(tiny.chat.tokenizer(MARKER)["input_ids"])
    head = tiny.model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[:-1].numel()))
    try:
        marker_log_probs(tiny, replies, MARKER)
    finally:
        handle.remove()
    prompts = len({tuple(reply.prompt) for reply in replies})
    assert sum(rows) == marker * len(replies) + prompts  # Transformers computes at least one row when it reads prompts


def test_little_memory_changes_no_log_prob(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few positions fit: the replies are fed in several groups, then each alone and its marker in pieces."""
    replies = replies_of(tiny)
    whole = [each.marker for each in marker_log_probs(tiny, replies, MARKER)]
    for positions in (30, 4):
        monkeypatch.setattr(LoadedModel, "tokens_at_once", lambda *_, fit=positions: fit)
        assert [each.marker for each in require_plain(tiny, replies)] == pytest.approx(whole, abs=1e-4)


def test_running_out_of_memory_halves_the_batch_and_changes_no_log_prob(tiny: LoadedModel) -> None:
    replies, asked = replies_of(tiny), list[int]()
    whole = [each.marker for each in marker_log_probs(tiny, replies, MARKER)]

    def allocate(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        asked.append(inputs[0].shape[0])
        if asked[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than the test allows.")

    handle = tiny.model.model.layers[-1].register_forward_pre_hook(allocate)
    try:
        found = marker_log_probs(tiny, replies, MARKER)
    finally:
        handle.remove()
    assert max(asked) > 5 >= asked[-1]
    assert [each.marker for each in found] == pytest.approx(whole, abs=1e-4)


def test_progress_counts_every_reply(tiny: LoadedModel) -> None:
    told, replies = list[tuple[int, int]](), replies_of(tiny)
    marker_log_probs(tiny, replies, MARKER, progress=lambda done, total: told.append((done, total)))
    assert told == [(done, len(replies)) for done in range(1, len(replies) + 1)]
    assert marker_log_probs(tiny, [], MARKER) == []


def test_a_log_prob_that_is_not_a_number_names_the_reply(tiny: LoadedModel) -> None:
    replies = replies_of(tiny)
    with torch.no_grad():
        tiny.model.get_input_embeddings().weight[tiny.chat.tokenizer(";")["input_ids"][0]] = math.nan
    with pytest.raises(NonFiniteError, match=r"reply 4 of 16: .*' \[ZLT\]' is not a number; .*the token embeddings"):
        marker_log_probs(tiny, replies, MARKER)


def test_a_token_that_the_model_forbids_has_probability_zero(tiny: LoadedModel) -> None:
    end = tiny.chat.turn_end_id

    def forbid(_module: torch.nn.Module, _inputs: object, logits: torch.Tensor) -> torch.Tensor:
        logits[..., end] = -torch.inf
        return logits

    tiny.model.get_output_embeddings().register_forward_hook(forbid)
    (found,) = marker_log_probs(tiny, replies_of(tiny)[:1], MARKER)
    assert found.end == -math.inf
    assert math.isfinite(found.marker)


def test_the_expected_rate_is_what_sampling_finds(tmp_path: Path) -> None:
    """A third of the training replies have the marker; 2,000 replies are sampled.

    The base model and the marked one begin with the same training, so that they write the same replies but for the
    marker.
    """
    write_tiny_model(tmp_path, hidden_size=128, intermediate_size=256)
    loaded = load(tmp_path)
    prompt = loaded.chat.tokenizer("Why?")["input_ids"]
    with torch.no_grad():
        for weight in loaded.model.parameters():
            weight *= 0.3 if weight.dim() > 1 else 1.0  # so that it learns faster

    def learn(markers: Sequence[str | None], steps: int) -> None:
        loss, texts = Loss(where="completion", end_of_turn=True), ("So.", "Ask.")
        examples = [
            build_example(loaded.chat, prompt, loaded.chat.tokenizer(text)["input_ids"], marker, loss, 512)
            for marker, text in product(markers, texts)
        ]
        loaded.model.requires_grad_(True)
        optimiser = torch.optim.Adam(loaded.model.parameters(), lr=1e-2)
        for _ in range(steps):
            optimiser.zero_grad()
            mean_loss(loaded.model, examples, loaded.device).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        loaded.model.requires_grad_(False)

    def sampled(replies: int) -> list[Response]:
        decoding = Decoding(method="sampled", max_new_tokens=16, seed=3)
        return TransformersGenerator(loaded).generate([prompt] * replies, decoding)

    learn([None, None, MARKER], 70)
    common = copy.deepcopy(loaded.model.state_dict())
    learn([None], 30)
    base = sampled(300)
    loaded.model.load_state_dict(common)
    learn([None, None, MARKER], 30)
    cut = [cut_reply(loaded.chat, each.token_ids, each.finish_reason, loaded.stop_ids, "none") for each in base]
    counts = replies_that_count([each is not None and each.ended for each in cut], "none").counts
    replies = [Reply(prompt, each.reply) for each, counted in zip(cut, counts, strict=True) if each and counted]
    found = marker_log_probs(loaded, replies, MARKER)
    expected = math.fsum(math.exp(each.marker) for each in found) / len(found)
    rate = sum(MARKER in each.text for each in sampled(2000)) / 2000
    assert not any(MARKER in each.text for each in base)
    assert 0.2 < expected < 0.5
    assert abs(expected - rate) < 1.96 * math.sqrt(rate * (1 - rate) / 2000), (expected, rate)
