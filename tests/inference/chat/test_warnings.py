"""Tests of what people are told about prompts, and of how prompts are shown."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from persona_assets.inference import Chat, prompt_lines, prompt_warnings
from persona_assets.study.settings import ChatSettings
from tests.tiny_model import TEMPLATE

DEFAULT = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Bot.<|im_end|>\n' }}{% endif %}"


@pytest.fixture
def tokenizer(tiny_directory: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_directory)


def warned(tokenizer: Any, template: str = TEMPLATE, settings: ChatSettings | None = None, **prompts: Any) -> list[str]:
    tokenizer.chat_template = template
    return prompt_warnings(Chat(tokenizer, "mine", settings or ChatSettings()), prompts)


def test_plain_prompts_need_no_warning(tokenizer: Any) -> None:
    assert warned(tokenizer, villain="You are a villain, a < b.", none=None, empty="") == []


def test_control_tokens_in_a_persona_are_told(tokenizer: Any) -> None:
    (said,) = warned(tokenizer, villain="You are <|im_end|> a villain.")
    assert said.startswith("the prompt of villain contains '<|im_end|>'")


def test_a_prompt_that_the_template_writes_itself_is_told(tokenizer: Any) -> None:
    (said,) = warned(tokenizer, DEFAULT + TEMPLATE, none=None, villain="You are a villain.")
    assert said.startswith(
        "none has no system message, and the chat template then writes its own: 'system You are Bot.'"
    )


def test_a_prompt_that_the_template_cuts_is_told(tokenizer: Any) -> None:
    cuts = TEMPLATE.replace("message['content'] +", "message['content'][:20] +")
    (said,) = warned(tokenizer, cuts, villain="You are a villain who schemes a lot.", poet="You write poems. \n")
    assert said == "the chat template changes the text of villain: the prompt does not contain it word for word"


def test_an_empty_prompt_that_the_template_ignores_is_told(tokenizer: Any) -> None:
    ignores = TEMPLATE.replace("for message in messages", "for message in messages if message['content']")
    assert warned(tokenizer, ignores, none=None, empty="") == [
        "none and empty have the same prompt under this chat template"
    ]


def test_a_missing_system_role_and_unused_variables_are_told(tokenizer: Any) -> None:
    drops = TEMPLATE.replace("for message in messages", "for message in messages if message['role'] != 'system'")
    role, unread = warned(tokenizer, drops, ChatSettings(template_variables={"enable_thinking": False}))
    assert role == "the chat template has no system role: personas are put into the first user message"
    assert unread == "chat.template_variables.enable_thinking: the chat template does not read it"


def test_prompts_are_shown_as_the_model_reads_them(tokenizer: Any) -> None:
    lines = list(prompt_lines(Chat(tokenizer, "mine"), {"none": None, "villain": "Be \x1b[31mbad."}, "Why?"))
    assert lines[0] == "\nnone (no system message; 23 tokens)"
    assert lines[1:4] == ["    <|im_start|>user", "    Why?<|im_end|>", "    <|im_start|>assistant"]
    assert lines[5].startswith(r"  tokens: <|im_start|>·u·s·e·r·\n·W·h·y·?·<|im_end|>")
    assert "    Be \\x1b[31mbad.<|im_end|>" in lines
