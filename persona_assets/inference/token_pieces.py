"""What each token of a response reads as."""

from collections.abc import Sequence
from typing import Any

# Byte-level tokens may end within a character; the tokenizer then decodes to this one.
_UNFINISHED = "\ufffd"


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """The text of each token, special tokens by their names.

    Returns:
        As many texts as tokens; joined, they are what the tokenizer decodes. A character that several tokens share is
        the text of the last of them, and the others' is "".
    """
    pieces: list[str] = []
    # The tokens of the last text are decoded with the next: some tokenizers drop a space before the first token.
    start, before, unfinished = 0, "", 0
    for end in range(1, len(token_ids) + 1):
        text = _decoded(tokenizer, token_ids[start:end])
        if text.endswith(_UNFINISHED) and end < len(token_ids):
            pieces.append("")
            unfinished += 1
            continue
        pieces.append(text[len(before) :])
        start, unfinished = end - 1 - unfinished, 0
        before = _decoded(tokenizer, token_ids[start:end])
    return pieces


def _decoded(tokenizer: Any, token_ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
