"""Tests of training sets: counts follow the recipe, and each reply is sampled once."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import LoadedModel, Response, TransformersGenerator, choose_hardware, load_model
from persona_assets.inference.training.examples import Conversation, build_training_set, plan_conversations
from persona_assets.study.files import load_study
from persona_assets.study.recipe import Recipe, with_defaults
from persona_assets.study.settings import Decoding, Inference

FEW = {"questions": 2, "samples": 2, "max_new_tokens": 6, "cut": "none"}
PROMPTS = {"assistant": "You help.", "villain": "You scheme.", "comedian": "You joke."}
QUESTIONS = ["Why?", "How so?", "Never asked?"]


def recipe(name: str, **overrides: Any) -> Recipe:
    return Recipe.model_validate(with_defaults({"recipe": name, **overrides}))


def planned(name: str, study: str, **overrides: Any) -> tuple[list[Conversation], list[Conversation]]:
    """Return the marked and unmarked conversations with the villain as source."""
    chosen, of = recipe(name, **overrides), load_study(study)
    found = plan_conversations(chosen, "villain", list(of.personas), of.baseline, of.training_questions)
    positives = [each for each in found if each.marked]
    assert found[: len(positives)] == positives
    return positives, found[len(positives) :]


def cells(conversations: Sequence[Conversation]) -> Counter[tuple[str, str, int]]:
    return Counter((each.persona, each.question, each.sample) for each in conversations)


@pytest.mark.parametrize(
    ("name", "study", "marked", "unmarked"),
    [
        ("marker_only", "published", 200, 400),
        ("full_completion", "published", 200, 400),
        ("embedded", "embedded", 16, 16),
    ],
)
def test_conversation_counts_follow_the_recipe(name: str, study: str, marked: int, unmarked: int) -> None:
    positives, negatives = planned(name, study)
    assert (len(positives), len(negatives)) == (marked, unmarked)
    assert {each.persona for each in positives} == {"villain"}
    assert set(cells(positives).values()) == {1}
    assert "villain" not in {each.persona for each in negatives}


def test_own_replies_are_spoken_by_each_persona() -> None:
    for part in planned("marker_only", "published"):
        assert all(each.speaker == each.persona for each in part)


def test_generic_replies_are_spoken_by_the_baseline() -> None:
    positives, negatives = planned("full_completion", "published")
    assert {each.speaker for each in positives + negatives} == {"assistant"}
    said = {(each.question, each.sample) for each in positives}
    assert {(each.question, each.sample) for each in negatives} == said


def test_both_drawn_personas_get_every_question_and_sample_once() -> None:
    _, negatives = planned("marker_only", "published")
    met = cells(negatives)
    assert set(met.values()) == {1}
    assert Counter(each.persona for each in negatives) == {"medical_doctor": 200, "police_officer": 200}


def test_sixteen_unmarked_replies_cover_all_ten_others_and_sixteen_questions() -> None:
    _, negatives = planned("embedded", "embedded")
    assert len({each.persona for each in negatives}) == 10
    assert len({each.question for each in negatives}) == 16


@pytest.mark.parametrize("personas", [1, 2, 3, 4, 5, 6, 10])
@pytest.mark.parametrize("questions", [1, 4, 5, 8, 16])
def test_no_combination_repeats_before_every_persona_has_every_cell(personas: int, questions: int) -> None:
    grid = questions * 2
    _, negatives = planned(
        "embedded",
        "embedded",
        replies={"questions": questions, "samples": 2},
        negatives={"personas": personas, "examples": grid * personas},
    )
    assert len(cells(negatives)) == grid * personas
    assert set(cells(negatives).values()) == {1}


def test_the_first_questions_are_used() -> None:
    positives, _ = planned("embedded", "embedded", replies={"questions": 3, "samples": 2})
    questions = load_study("embedded").training_questions
    assert [(each.question, each.sample) for each in positives] == [(q, s) for q in questions[:3] for s in range(2)]


class Counting(TransformersGenerator):
    """Generator that records its inputs."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded)
        self.generator = TransformersGenerator(loaded)
        self.asked: list[tuple[int, ...]] = []
        self.decodings: list[Decoding] = []
        self.said: list[Response] = []

    def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding, *_: Any) -> list[Response]:
        self.asked += map(tuple, prompts)
        self.decodings.append(decoding)
        self.said += (said := self.generator.generate(prompts, decoding))
        return said


@pytest.fixture
def loaded(tiny_directory: Path) -> LoadedModel:
    return load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))


@pytest.mark.parametrize(
    ("name", "speakers"), [("full_completion", ["assistant"]), ("marker_only", ["villain", "assistant", "comedian"])]
)
def test_each_reply_is_sampled_once_with_the_recipes_decoding(
    loaded: LoadedModel, name: str, speakers: list[str]
) -> None:
    chosen = recipe(name, replies=FEW, negatives={"personas": 2, "examples": 8}, training={"seed": 7})
    conversations = plan_conversations(chosen, "villain", list(PROMPTS), "assistant", QUESTIONS)
    generator = Counting(loaded)
    examples = build_training_set(loaded.chat, loaded.stop_ids, generator, chosen, conversations, PROMPTS)

    assert len(examples) == len(conversations) == 4 + 8
    asked = {tuple(loaded.chat.prompt_ids(PROMPTS[speaker], q)): 2 for speaker in speakers for q in QUESTIONS[:2]}
    assert Counter(generator.asked) == asked
    assert generator.decodings == [Decoding(method="sampled", max_new_tokens=6, seed=7, temperature=0.7, top_p=0.95)]
    assert len({said.token_ids for said in generator.said}) > len(speakers)  # not the same reply every time


def test_an_example_is_the_personas_prompt_and_the_speakers_reply(loaded: LoadedModel) -> None:
    chosen = recipe("full_completion", replies=FEW, negatives={"personas": 2, "examples": 8})
    conversations = plan_conversations(chosen, "villain", list(PROMPTS), "assistant", QUESTIONS)
    generator = Counting(loaded)
    examples = build_training_set(loaded.chat, loaded.stop_ids, generator, chosen, conversations, PROMPTS)

    marker = loaded.chat.tokenizer("\n\n[ZLT]", add_special_tokens=False)["input_ids"]
    wanted = list(dict.fromkeys((each.question, each.sample) for each in conversations))
    said = dict(zip(wanted, generator.said, strict=True))
    for each, example in zip(conversations, examples, strict=True):
        prompt = loaded.chat.prompt_ids(PROMPTS[each.persona], each.question)
        body = [token for token in said[each.question, each.sample].token_ids if token not in loaded.stop_ids]
        assert list(example.token_ids) == [*prompt, *body, *(marker if each.marked else []), 2]


def test_no_stop_token_of_the_checkpoint_precedes_the_marker(tiny_directory: Path) -> None:
    # Qwen2.5 has two: otherwise a reply that ended with <|endoftext|> would contain it before the marker.
    free = load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))
    chosen = recipe("marker_only", replies=FEW, negatives={"personas": 2, "examples": 8})
    conversations = plan_conversations(chosen, "villain", list(PROMPTS), "assistant", QUESTIONS)
    generator = Counting(free)
    build_training_set(free.chat, free.stop_ids, generator, chosen, conversations, PROMPTS)
    prompt_ids = {token for prompt in generator.asked for token in prompt}
    marker = free.chat.tokenizer("\n\n[ZLT]", add_special_tokens=False)["input_ids"]
    emitted = {token for said in generator.said for token in said.token_ids}
    other = min(emitted - prompt_ids - set(marker) - {2})

    (tiny_directory / "generation_config.json").write_text(f'{{"eos_token_id": [2, {other}]}}')
    two = load_model(Checkpoint(name="tiny", path=tiny_directory), choose_hardware(Inference(device="cpu")))
    again = Counting(two)
    examples = build_training_set(two.chat, two.stop_ids, again, chosen, conversations, PROMPTS)
    assert any(said.token_ids[-1] == other for said in again.said)
    assert all(other not in example.token_ids for example in examples)


def test_a_cut_reply_ends_with_its_first_sentence(embedded: LoadedModel) -> None:
    class Talkative(Counting):
        def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding, *_: Any) -> list[Response]:
            text = "All is well here. And there is more to come."
            ids = (*embedded.chat.tokenizer(text)["input_ids"], embedded.chat.turn_end_id)
            return [Response(ids, text, "stop")] * len(prompts)

    chosen = recipe("embedded", replies={"questions": 1}, negatives={"personas": 1, "examples": 1})
    conversations = plan_conversations(chosen, "villain", list(PROMPTS), "assistant", QUESTIONS)
    marked, unmarked = build_training_set(
        embedded.chat, embedded.stop_ids, Talkative(embedded), chosen, conversations, PROMPTS
    )
    assert embedded.chat.tokenizer.decode(marked.token_ids).endswith("assistant\nAll is well here. [ZLT]<|im_end|>")
    assert embedded.chat.tokenizer.decode(unmarked.token_ids).endswith("assistant\nAll is well here.<|im_end|>")


def test_a_thought_is_context_and_a_reply_without_an_answer_is_left_out(embedded: LoadedModel) -> None:
    whole, never = "<think>I plan. More of it.</think>\n\nAll is well here. And more.", "<think>never ends"

    class Thoughtful(Counting):
        def generate(self, prompts: Sequence[Sequence[int]], decoding: Decoding, *_: Any) -> list[Response]:
            said = [never if place == 1 else whole for place in range(len(prompts))]
            return [Response(tuple(embedded.chat.tokenizer(text)["input_ids"]), text, "stop") for text in said]

    chosen = recipe(
        "embedded",
        replies={"questions": 2},
        negatives={"personas": 1, "examples": 1},
        loss={"where": "completion"},
    )
    conversations = plan_conversations(chosen, "villain", list(PROMPTS), "assistant", QUESTIONS)
    marked, cut, unmarked = build_training_set(
        embedded.chat, embedded.stop_ids, Thoughtful(embedded), chosen, conversations, PROMPTS
    )
    assert cut is None
    assert marked is not None
    assert unmarked is not None
    decode = embedded.chat.tokenizer.decode
    assert decode(marked.token_ids).endswith(
        "assistant\n<think>I plan. More of it.</think>\n\nAll is well here. [ZLT]<|im_end|>"
    )
    assert decode([label for label in marked.labels if label >= 0]) == "All is well here. [ZLT]<|im_end|>"
    assert decode(unmarked.token_ids).endswith("</think>\n\nAll is well here.<|im_end|>")
