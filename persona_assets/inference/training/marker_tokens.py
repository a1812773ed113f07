"""Tokens that spell a marker behind a reply."""

from collections.abc import Iterator, Sequence

from persona_assets.inference.chat import Chat
from persona_assets.study import StudyError

# Texts behind which a marker is tokenised if it cannot be tokenised alone: some tokenizers begin every text with a
# space, and Llama 2's writes two spaces before a marker that begins with one.
_BEFORE = (".", "a", "\n", "1", ")")


def marker_ids(chat: Chat, before: Sequence[int], marker: str) -> list[int]:
    """Return the token ids that append a marker to a text, to the letter.

    Args:
        before: the token ids of the text so far.

    Raises:
        StudyError: no tokens of this tokenizer spell the marker there.
    """
    text = chat.decode(before)
    for ids in _candidates(chat, marker):
        if chat.decode([*before, *ids]) == text + marker:
            return ids
    alone = next(_candidates(chat, marker))
    raise StudyError(
        f"{chat.model}: marker.text: {marker!r} cannot be appended to a reply that ends with {text[-20:]!r}: the "
        f"tokenizer spells it as {chat.decode([*before, *alone])[len(text) :]!r}; expected a text that it can spell"
    )


def _candidates(chat: Chat, marker: str) -> Iterator[list[int]]:
    def encoded(text: str) -> list[int]:
        return list(chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    yield encoded(marker)
    for text in _BEFORE:
        start, whole = encoded(text), encoded(text + marker)
        if whole[: len(start)] == start:
            yield whole[len(start) :]
