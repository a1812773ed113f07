"""Text of each token of a response."""

from collections.abc import Sequence
from typing import Any

# Byte-level tokens may end in the middle of a character, which then decodes to this replacement character.
_UNFINISHED = "\ufffd"


def token_pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """Return the text of each token, with special tokens by name.

    Returns:
        One text per token; joined, they equal the decoded response. A character that spans several tokens is the text
        of the last one, and the others have "".
    """
    pieces: list[str] = []
    # Decode each token together with the previous text, since some tokenizers drop a space before the first token.
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
