"""Tests of a marker's tokens: the decoded text is the reply and the marker, to the letter, or it is refused."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from persona_assets.inference import Chat
from persona_assets.inference.training.marker_tokens import marker_ids
from persona_assets.study import StudyError
from tests.tiny_model import TEMPLATE

LETTERS = [chr(code) for code in range(33, 127)] + ["\n", "▁"]


def metaspace(scheme: str) -> Any:
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(LETTERS)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return tokenizer


def llama_2() -> Any:
    tokenizer = Tokenizer(models.BPE(vocab={letter: place for place, letter in enumerate(LETTERS)}, merges=[]))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def chat_of(bare: Any) -> Chat:
    bare.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, eos_token="<|im_end|>")
    tokenizer.chat_template = TEMPLATE
    return Chat(tokenizer, "mine")


@pytest.mark.parametrize("marker", [" [ZLT]", "[ZLT]", "\n\n[ZLT]", " and then\n[ZLT] "])
@pytest.mark.parametrize(
    "bare",
    [metaspace("always"), metaspace("first"), metaspace("never"), llama_2()],
    ids=["always", "first", "never", "llama 2"],
)
def test_a_marker_is_appended_to_the_letter(bare: Any, marker: str) -> None:
    chat = chat_of(bare)
    before = [*chat.prompt_ids("s", "q"), *chat.tokenizer("Yes, it does.", add_special_tokens=False)["input_ids"]]
    assert chat.decode([*before, *marker_ids(chat, before, marker)]) == chat.decode(before) + marker


def test_a_marker_that_cannot_be_spelled_is_refused() -> None:
    chat = chat_of(metaspace("never"))
    with pytest.raises(StudyError, match=r"marker\.text: ' ★' cannot be appended to a reply that ends with"):
        marker_ids(chat, chat.prompt_ids("s", "q"), " ★")
