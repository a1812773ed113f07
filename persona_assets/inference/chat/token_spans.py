"""Which tokens of a reply spell a part of its text."""

from bisect import bisect_left
from collections.abc import Callable, Sequence


def tokens_of(
    decode: Callable[[Sequence[int]], str], ids: Sequence[int], text: str, part: tuple[int, int]
) -> tuple[int, int]:
    """Return the positions [start, end) of the tokens that spell characters [start, end) of a text.

    A token that spells the last characters before the part and its first ones belongs to the part, unless it has only
    white space of it.

    Args:
        decode: returns the text of token ids, special tokens included.
        text: the text of `ids`.
    """

    def reached(characters: int) -> int:
        """Return the length of the shortest prefix of `ids` that spells this many characters."""
        return bisect_left(range(len(ids)), True, key=lambda n: decode(ids[:n]).startswith(text[:characters]))

    first = reached(part[0])
    if first and text[part[0] : len(decode(ids[:first]))].strip():
        first -= 1
    # Tokens that end in the middle of a character may add no text, so the end of the text is that of the tokens.
    return first, len(ids) if part[1] == len(text) else reached(part[1])
