"""Tests of what an identity says about a chat template: nothing for a plain one."""

import json
from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint, DigestCache, Identity, identify
from tests.tiny_model import TEMPLATE


def identified(directory: Path, template: str = TEMPLATE) -> Identity:
    (directory / "chat_template.jinja").write_text(template)
    return identify(Checkpoint(name="tiny", path=directory), DigestCache(directory.parent / "digests"))


def test_a_plain_template_adds_nothing_to_the_identity(tiny_directory: Path) -> None:
    assert not {"system_prompt", "thoughts", "turn_end"} & set(identified(tiny_directory).record())


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE.replace("for message in messages", "for message in messages if message['role'] != 'system'"),
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + TEMPLATE,
    ],
    ids=["drops", "refuses"],
)
def test_a_template_without_a_system_role_is_part_of_the_identity(tiny_directory: Path, template: str) -> None:
    plain, without = identified(tiny_directory), identified(tiny_directory, template)
    assert without.system_prompt == "first user message"
    assert without.digest != plain.model_copy(update={"chat_template": without.chat_template}).digest


def test_thoughts_are_named_by_their_format(tiny_directory: Path) -> None:
    assert identified(tiny_directory, TEMPLATE + "{# </think> #}").thoughts == "<think>"
    assert identified(tiny_directory, TEMPLATE + "{# <|channel|>final<|message|> #}").thoughts == "harmony channels"


def test_an_end_of_turn_that_no_configuration_names_is_told(tiny_directory: Path) -> None:
    for file, changes in {
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
        "config.json": {"eos_token_id": 0},
        "generation_config.json": {"eos_token_id": 0},
    }.items():
        content = json.loads((tiny_directory / file).read_text())
        (tiny_directory / file).write_text(json.dumps(content | changes))
    assert identified(tiny_directory).turn_end == "<|im_end|>"
    assert identified(tiny_directory, TEMPLATE.replace("<|im_end|>", "\nDone")).turn_end is None  # text stops nothing


def test_an_identity_of_0_1_0_can_be_read(tiny_directory: Path) -> None:
    record = identified(tiny_directory).record()
    assert Identity.model_validate(record).digest == identified(tiny_directory).digest
