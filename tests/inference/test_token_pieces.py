"""Tests of the texts of single tokens, which join to the decoded response."""

import pytest
from transformers import AutoTokenizer

from persona_assets.inference.token_pieces import token_pieces

TEXTS = ["plain words, and numbers 12", "naïve café – “quoted”\n\n1. first", "日本 🙂 👩‍🚀 end", "שלום עולם", "a", ""]


@pytest.mark.parametrize("text", TEXTS)
def test_token_texts_join_to_the_decoded_text(tiny_directory, text):
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces)


def test_special_tokens_are_named_and_incomplete_characters_are_shown(tiny_directory):
    tokenizer = AutoTokenizer.from_pretrained(tiny_directory)
    ids = tokenizer("né", add_special_tokens=False)["input_ids"]
    assert token_pieces(tokenizer, [*ids, tokenizer.convert_tokens_to_ids("<|im_end|>")])[-1] == "<|im_end|>"
    assert token_pieces(tokenizer, ids[:-1]) == ["n", "\ufffd"]


def test_a_leading_space_dropped_by_decoding_is_kept_within_a_response():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "▁one": 1, "▁two": 2}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    assert token_pieces(fast, [1, 2, 2]) == ["one", " two", " two"]
