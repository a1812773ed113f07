"""Answers apart from thoughts, in tables of replies."""

from typing import Any

import pandas as pd

from persona_assets.inference import Chat


def take_answers(chat: Chat, replies: pd.DataFrame) -> pd.DataFrame:
    """Return a table of replies whose text is the answer alone.

    Args:
        replies: columns token_ids, text and others.

    Returns:
        The same table; if any reply has a thought, with the thought in a column of its own, and whether the reply
        reached an answer. One that did not has an empty text.
    """
    spans = [chat.answer_span(ids) for ids in replies.token_ids]
    whole = [span == (0, len(ids)) for span, ids in zip(spans, replies.token_ids, strict=True)]
    if all(whole):
        return replies
    texts, thoughts = [], []
    for ids, span, text, is_whole in zip(replies.token_ids, spans, replies.text, whole, strict=True):
        start, end = span or (len(ids), len(ids))
        answer = chat.tokenizer.decode(list(ids[start:end]), skip_special_tokens=True)
        texts.append(text if is_whole else answer)
        thoughts.append("" if is_whole else chat.decode([*ids[:start], *ids[end:]]))
    return replies.assign(text=texts, thought=thoughts, answered=[span is not None for span in spans])


def unanswered(replies: pd.DataFrame) -> dict[str, Any]:
    """Return how many replies end before they reach an answer, for display; nothing if no reply has a thought."""
    if "answered" not in replies:
        return {}
    return {"without_answer": share_of(int((~replies.answered.astype(bool)).sum()), len(replies))}


def share_of(part: int, of: int) -> str:
    """Return a count with its share, such as `3 of 20 (15 %)`."""
    return f"{part} of {of} ({part / of:.0%})".replace("%", " %")
