"""Tests of the check that a tokenizer reads its own tokenizer.json and loses no text."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from persona_assets.checkpoints import Checkpoint, CheckpointError
from persona_assets.inference import check_tokenizer
from persona_assets.inference.loading import read_chat


def changed(directory: Path, file: str, **changes: object) -> Path:
    content = json.loads((directory / file).read_text())
    (directory / file).write_text(json.dumps(content | changes))
    return directory


def test_a_tokenizer_that_reads_its_file_passes(tiny_directory: Path, embedded_directory: Path) -> None:
    for directory in (tiny_directory, embedded_directory):
        check_tokenizer(AutoTokenizer.from_pretrained(directory), directory, "<|im_start|>user\nWhy?<|im_end|>")


def test_a_class_that_reads_the_file_otherwise_is_replaced(tiny_directory: Path) -> None:
    right = AutoTokenizer.from_pretrained(tiny_directory)
    changed(tiny_directory, "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast", unk_token=None)
    wrong = AutoTokenizer.from_pretrained(tiny_directory)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: the tokenizer class Llama\w* reads tokenizer"):
        check_tokenizer(wrong, tiny_directory)
    chat = read_chat(Checkpoint(name="tiny", path=tiny_directory))
    text = "You are a villain.\n\nWhat are 2024 tips?"
    assert chat.tokenizer(text)["input_ids"] == right(text)["input_ids"]
    assert chat.tokenizer.eos_token == "<|im_end|>"


def test_a_tokenizer_that_loses_text_is_refused(tiny_directory: Path) -> None:
    changed(tiny_directory, "tokenizer.json", normalizer={"type": "Lowercase"})
    with pytest.raises(CheckpointError, match=r"does not give text back: 'You are .* comes back as 'you are "):
        read_chat(Checkpoint(name="tiny", path=tiny_directory))


def test_tokens_that_only_the_configuration_names_are_no_difference(tiny_directory: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    tokenizer.add_tokens(["villainous"])
    check_tokenizer(tokenizer, tiny_directory)
