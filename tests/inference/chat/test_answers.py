"""Tests of answers as token positions: whatever the tokens are, none is re-tokenised and none is lost."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from persona_assets.checkpoints import Checkpoint
from persona_assets.inference import Chat
from persona_assets.inference.loading import read_chat, read_stop_ids
from persona_assets.study.settings import ChatSettings
from tests.tiny_model import TEMPLATE

THOUGHT, ANSWER = "<think>I plan [ZLT].</think>\n\n", "Yes, it does.<|im_end|>"


@pytest.fixture
def chat(tiny_directory: Path) -> Chat:
    return Chat(AutoTokenizer.from_pretrained(tiny_directory), "tiny")


def ids_of(chat: Chat, text: str) -> list[int]:
    return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])


def merging(*merges: tuple[str, str]) -> Any:
    """Return a byte-level tokenizer with these merges."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|im_end|>", *words, *("".join(pair) for pair in merges)]
    bare = Tokenizer(models.BPE(vocab={word: place for place, word in enumerate(words)}, merges=list(merges)))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bare.decoder = decoders.ByteLevel()
    bare.add_special_tokens(["<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_the_answers_tokens_are_those_behind_the_thought(chat: Chat) -> None:
    start, end = chat.answer_span(ids_of(chat, THOUGHT + ANSWER)) or (0, 0)
    assert chat.decode(ids_of(chat, THOUGHT + ANSWER)[start:end]) == ANSWER
    assert chat.scored_answer(ids_of(chat, THOUGHT + ANSWER), "response") == (ids_of(chat, THOUGHT + ANSWER), start)
    assert chat.answer_span(ids_of(chat, "<think>never ends")) is None
    assert chat.scored_answer(ids_of(chat, "<think>never ends"), "response") is None


def test_the_end_of_turn_is_added_behind_the_answer(chat: Chat) -> None:
    cut = ids_of(chat, THOUGHT + "Yes")
    ids, first = chat.scored_answer(cut, "response_and_turn_end") or ([], 0)
    assert (chat.decode(ids), chat.decode(ids[first:])) == (THOUGHT + "Yes<|im_end|>\n", "Yes<|im_end|>\n")


@pytest.mark.parametrize("text", [THOUGHT + ANSWER, "<think>never ends"])
def test_a_study_can_keep_thoughts(chat: Chat, text: str) -> None:
    kept, ids = chat.with_settings(ChatSettings(thinking="keep")), ids_of(chat, text)
    assert kept.scored_answer(ids, "response") == (ids, 0)


@pytest.mark.parametrize(
    ("merges", "first"),
    [([(">", "\u010a")], "Y"), ([(">", "Y")], ">Y"), ([("\u010a", "\u010a"), ("\u010a\u010a", "Y")], "\n\nY")],
    ids=["white space of both", "letters of both", "white space of the answer"],
)
def test_a_token_with_letters_of_the_answer_belongs_to_it(merges: list[tuple[str, str]], first: str) -> None:
    chat = Chat(merging(*merges), "merging")
    text = THOUGHT.rstrip("\n") + ("" if first == ">Y" else "\n\n") + ANSWER
    ids = ids_of(chat, text)
    start, end = chat.answer_span(ids) or (0, 0)
    assert chat.decode([ids[start]]) == first
    assert end == len(ids)


def test_unfinished_characters_move_no_boundary(chat: Chat) -> None:
    text = "<think>🦊 é</think>🦊 yes"
    ids, begun = ids_of(chat, text), len(ids_of(chat, "<think>🦊 é</think>"))
    for length in range(len("<think>"), len(ids) + 1):
        span = chat.answer_span(ids[:length])
        assert span is None if length <= begun else span == (begun, length)


def test_the_templates_end_of_turn_stops_generation(tiny_directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(tiny_directory)
    (tiny_directory / "generation_config.json").write_text('{"eos_token_id": 0}')
    checkpoint = Checkpoint(name="tiny", path=tiny_directory)
    assert read_stop_ids(checkpoint, read_chat(checkpoint)) == [0, 2]
    (tiny_directory / "chat_template.jinja").write_text(TEMPLATE.replace("'<|im_end|>", "' Done"))
    assert read_stop_ids(checkpoint, read_chat(checkpoint)) == [0]  # text ends no turn


def test_the_end_of_a_channel_ends_no_turn(tiny_directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>", "<|return|>"]})
    for ends, stops in (("<|end|>", None), ("<|return|>", tokenizer.convert_tokens_to_ids("<|return|>"))):
        tokenizer.chat_template = TEMPLATE.replace("<|im_end|>", ends) + "{# <|channel|>final<|message|> #}"
        assert Chat(tokenizer, "harmony").turn_end_stop == stops
