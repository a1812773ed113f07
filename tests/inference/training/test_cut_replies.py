"""The measured part of a reply is the one that training appends the marker to."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from transformers import AutoTokenizer

from persona_assets.inference import Chat, CutReply, build_training_set, cut_reply, replies_that_count
from persona_assets.inference.generation import Response
from persona_assets.inference.training.examples import Conversation
from persona_assets.study.recipe import Recipe, with_defaults

STOP = 2
END = "<|im_end|>"


@pytest.fixture
def chat(tiny_directory: Path) -> Chat:
    return Chat(AutoTokenizer.from_pretrained(tiny_directory), "tiny")


def ids_of(chat: Chat, text: str) -> list[int]:
    return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def cut(chat: Chat, text: str, where: Literal["none", "sentence"], reason: Literal["stop", "length"]) -> CutReply:
    found = cut_reply(chat, ids_of(chat, text), reason, [STOP], where)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "where", "reply"),
    [
        (f"It is so. Is it?{END}", "none", "It is so. Is it?"),
        (f"It is so. Is it?{END}", "sentence", "It is so."),
        ("It never ends", "sentence", "It never ends"),
        (END, "none", ""),
    ],
)
def test_a_reply_is_cut_without_its_end_of_turn(
    chat: Chat, text: str, where: Literal["none", "sentence"], reply: str
) -> None:
    found = cut(chat, text, where, "stop")
    assert chat.decode(found.reply) == reply
    assert found.thought == ()


def test_a_reply_that_hit_the_length_limit_has_not_ended(chat: Chat) -> None:
    assert cut(chat, "It is so. Is", "sentence", "length").ended is False
    assert cut(chat, f"It is so.{END}", "none", "stop").ended is True


def test_a_thought_belongs_to_the_prompt_and_without_an_answer_there_is_no_reply(chat: Chat) -> None:
    found = cut(chat, f"<think>So. It may be.</think>\n\nIt is so. Is it?{END}", "sentence", "stop")
    assert chat.decode(found.thought) == "<think>So. It may be.</think>\n\n"
    assert chat.decode(found.reply) == "It is so."
    assert cut_reply(chat, ids_of(chat, "<think>never ends"), "length", [STOP], "none") is None


def test_ids_from_a_table_are_plain_integers(chat: Chat) -> None:
    ids = ids_of(chat, "It is so.")
    found = cut_reply(chat, np.array(ids), "stop", [STOP], "none")  # type: ignore[arg-type]
    assert found == CutReply((), tuple(ids), True)
    assert found is not None
    assert {type(token) for token in found.reply} == {int}


def test_training_appends_the_marker_where_it_is_measured(chat: Chat) -> None:
    emitted = f"<think>Hm.</think>\n\nIt is so. Is it?{END}"

    class Written:
        def generate(self, prompts: list[list[int]], *_: object) -> list[Response]:
            return [Response(tuple(ids_of(chat, emitted)), emitted, "stop") for _ in prompts]

    recipe = Recipe.model_validate(with_defaults({"recipe": "embedded"}))
    each = Conversation("poet", "Why?", 0, "poet", True)
    (example,) = build_training_set(chat, [STOP], Written(), recipe, [each], {"poet": None})  # type: ignore[arg-type]
    found = cut(chat, emitted, recipe.replies.cut, "stop")
    measured = [*chat.prompt_ids(None, "Why?"), *found.thought, *found.reply, *ids_of(chat, recipe.marker.text)]
    assert example is not None
    assert list(example.token_ids) == [*measured, STOP]


def test_replies_cut_at_their_first_sentence_all_count() -> None:
    assert replies_that_count([True, False, False], "sentence") == ([True, True, True], False)


def test_whole_replies_count_if_they_ended_unless_none_did() -> None:
    assert replies_that_count([True, False, True], "none") == ([True, False, True], False)
    assert replies_that_count([False, False], "none") == ([True, True], True)
    assert replies_that_count([], "none") == ([], False)
