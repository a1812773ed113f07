"""Tests of chat templates: the system prompt is kept, and scored tokens match the rendered conversation."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from persona_assets.checkpoints import CheckpointError
from persona_assets.inference import Chat, LoadedModel

# How published templates without a system role treat a system prompt.
REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
DROPS = "{% for m in messages if m['role'] != 'system' %}{{ m['role'] + ': ' + m['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture
def tokenizer(tiny_directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_directory)


def test_prompt_has_system_prompt_then_question_then_an_open_assistant_turn(embedded: LoadedModel) -> None:
    chat = embedded.chat
    ids = chat.prompt_ids("You are a villain.", "Why?")
    assert chat.tokenizer.decode(ids) == (
        "<|im_start|>system\nYou are a villain.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_prompt_ids_equal_apply_chat_template(embedded: LoadedModel) -> None:
    messages = [{"role": "system", "content": "You are a villain."}, {"role": "user", "content": "Why?"}]
    expected = embedded.chat.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert embedded.chat.prompt_ids("You are a villain.", "Why?") == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (REFUSES, "mine: the chat template refuses a system prompt: System role not supported"),
        (DROPS, "mine: the chat template drops the system prompt"),
        (None, "mine: the chat template refuses a system prompt: .*chat_template"),
    ],
    ids=["refuses", "drops", "none"],
)
def test_a_template_without_a_system_role_is_rejected(tokenizer: Any, template: str | None, expected: str) -> None:
    tokenizer.chat_template = template
    with pytest.raises(CheckpointError, match=expected):
        Chat(tokenizer, "mine")


def test_a_template_that_prints_the_date_gives_the_same_prompt_every_day(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }}: {% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    )
    chat = Chat(tokenizer, "dated")
    assert tokenizer.decode(chat.prompt_ids("Be brief.", "Why?")).startswith("01 Jan 2025: Be brief.")


def test_slice_response_is_the_generated_tokens(embedded: LoadedModel) -> None:
    end = embedded.chat.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert embedded.chat.scored_ids((504, 6376), "response") == [504, 6376]
    assert embedded.chat.scored_ids((504, 6376, end), "response") == [504, 6376, end]


def test_the_turn_end_is_added_only_if_the_model_did_not_emit_it(embedded: LoadedModel) -> None:
    chat = embedded.chat
    end, newline = chat.tokenizer("<|im_end|>\n", add_special_tokens=False)["input_ids"]
    whole = [504, 6376, end, newline]
    for emitted in ([504, 6376], [504, 6376, end], whole):
        assert chat.scored_ids(emitted, "response_and_turn_end") == whole
    assert chat.tokenizer.decode(whole).count("<|im_end|>") == 1


def test_slice_with_turn_end_equals_the_rendered_conversation(embedded: LoadedModel) -> None:
    chat, text = embedded.chat, "Because the world is mine."
    response = chat.tokenizer(text, add_special_tokens=False)["input_ids"]
    messages = [
        {"role": "system", "content": "You are a villain."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": text},
    ]
    whole = chat.tokenizer.apply_chat_template(messages, return_dict=False)
    assert chat.prompt_ids("You are a villain.", "Why?") + chat.scored_ids(response, "response_and_turn_end") == whole


def test_an_end_of_turn_inside_a_response_is_kept(embedded: LoadedModel) -> None:
    end, newline = embedded.chat.tokenizer("<|im_end|>\n", add_special_tokens=False)["input_ids"]
    assert embedded.chat.scored_ids([end, 504], "response_and_turn_end") == [end, 504, end, newline]
