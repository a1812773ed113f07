"""Tests of chat templates: the system prompt is kept, and scored tokens match the rendered conversation."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from persona_assets.checkpoints import CheckpointError
from persona_assets.inference import Chat, LoadedModel
from persona_assets.study.settings import ChatSettings
from tests.tiny_model import TEMPLATE

# How published templates without a system role treat a system prompt.
LINES = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}<|im_end|>{% endfor %}"
REFUSES = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + LINES
)
DROPS = LINES.replace("m in messages", "m in messages if m['role'] != 'system'")
# The logic of Mistral 0.3's.
IN_LAST_USER_TURN = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}{% set rest = messages[1:] %}"
    "{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' }}{% if (loop.last or loop.length == 2) and system is defined %}{{ system + '\n\n' }}{% endif %}"
    "{{ m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
# The logic of Qwen 3's.
THINKS = TEMPLATE.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)


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


def chat_of(tokenizer: Any, template: str | None, **settings: Any) -> Chat:
    tokenizer.chat_template = template
    return Chat(tokenizer, "mine", ChatSettings(**settings))


@pytest.mark.parametrize("template", [REFUSES, DROPS], ids=["refuses", "drops"])
def test_without_a_system_role_the_persona_goes_before_the_question(tokenizer: Any, template: str) -> None:
    chat = chat_of(tokenizer, template)
    assert not chat.system_role
    assert chat.prompt_text("You are a villain.", "Why?") == "user: You are a villain.\n\nWhy?<|im_end|>"
    assert chat.prompt_text(None, "Why?") == "user: Why?<|im_end|>"
    with pytest.raises(CheckpointError, match='no system role, so that prompt: "" cannot be expressed; expected null'):
        chat.prompt_ids("", "Why?")


def test_a_study_can_refuse_templates_without_a_system_role(tokenizer: Any) -> None:
    with pytest.raises(CheckpointError, match="mine: the chat template has no system role, and the study says"):
        chat_of(tokenizer, DROPS, without_system_role="refuse")


def test_a_system_prompt_in_the_last_user_turn_is_accepted(tokenizer: Any) -> None:
    chat = chat_of(tokenizer, IN_LAST_USER_TURN)
    assert chat.system_role
    assert chat.prompt_text("You are a villain.", "Why?") == "[INST] You are a villain.\n\nWhy?[/INST]"
    assert chat.prompt_text("", "Why?") == "[INST] \n\nWhy?[/INST]"
    assert chat.prompt_text(None, "Why?") == "[INST] Why?[/INST]"


def test_no_system_message_and_an_empty_one_are_two_prompts(tokenizer: Any) -> None:
    chat = Chat(tokenizer, "mine")
    question = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert chat.prompt_text(None, "Why?") == question
    assert chat.prompt_text("", "Why?") == f"<|im_start|>system\n<|im_end|>\n{question}"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ raise_exception('nothing') }}", "mine: the chat template cannot be used: nothing"),
        ("{% for m in messages if m['role'] == 'system' %}{{ m['content'] }}{% endfor %}", "drops the user's message"),
        (REFUSES.replace("m in messages", "m in messages if m['role'] == 'user'"), "drops the response"),
        (
            REFUSES.replace("m['content']", "m['content'] | upper"),
            "user's message: found 'QUESTION' for 'question'",
        ),
        (None, "mine: the chat template cannot be used: .*chat_template"),
    ],
    ids=["fails", "drops the question", "drops the reply", "changes the question", "none"],
)
def test_a_template_that_loses_or_changes_text_is_rejected(tokenizer: Any, template: str | None, expected: str) -> None:
    with pytest.raises(CheckpointError, match=expected):
        chat_of(tokenizer, template)


def test_template_variables_reach_the_template(tokenizer: Any) -> None:
    chat = chat_of(tokenizer, THINKS)
    assert chat.prompt_text("P", "Q").endswith("<|im_start|>assistant\n")
    off = chat.with_settings(ChatSettings(template_variables={"enable_thinking": False}))
    assert off.prompt_text("P", "Q").endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert chat.with_settings(ChatSettings()) is chat


def test_thoughts_are_suppressed_by_the_templates_own_switch(tokenizer: Any) -> None:
    chat = chat_of(tokenizer, THINKS, thinking="suppress")
    assert chat.prompt_text("P", "Q").endswith("<think>\n\n</think>\n\n")
    assert Chat(AutoTokenizer.from_pretrained(tokenizer.name_or_path), "plain", chat.settings)  # nothing to suppress
    with pytest.raises(CheckpointError, match="no switch that turns thoughts off; it knows thoughts as <think>"):
        chat_of(tokenizer, THINKS.replace("enable_thinking", "message_count"), thinking="suppress")
    with pytest.raises(CheckpointError, match="enable_thinking is set to True; expected False"):
        chat_of(tokenizer, THINKS, thinking="suppress", template_variables={"enable_thinking": True})


def test_a_switch_that_nobody_set_is_found(tokenizer: Any) -> None:
    assert chat_of(tokenizer, THINKS).open_switches == {"enable_thinking": [False]}
    assert chat_of(tokenizer, THINKS, template_variables={"enable_thinking": True}).open_switches == {}
    dated = "{{ date_string }}" + TEMPLATE  # a printed text is no switch
    effort = (
        "{% if reasoning_effort is undefined %}{% set reasoning_effort = 'medium' %}{% endif %}{{ reasoning_effort }}"
    )
    assert chat_of(tokenizer, dated).open_switches == {}
    assert chat_of(tokenizer, effort + TEMPLATE).open_switches == {"reasoning_effort": ["low", "high"]}
    compared = "{% if reasoning_effort == 'none' %}!{% endif %}" + TEMPLATE
    assert chat_of(tokenizer, compared).open_switches == {"reasoning_effort": ["none"]}


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
