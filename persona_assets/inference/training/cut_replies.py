"""What of a sampled reply a marker is appended to, in training and where its log-probability is measured."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from persona_assets.inference.chat import Chat
from persona_assets.inference.training.example import first_sentence


class CutReply(NamedTuple):
    """A sampled reply in two parts, as token ids.

    Attributes:
        thought: what the model emitted before its answer; belongs to the prompt.
        reply: the answer, cut as the recipe says, without stop tokens.
        ended: whether the model ended the reply itself, before the length limit.
    """

    thought: tuple[int, ...]
    reply: tuple[int, ...]
    ended: bool


def cut_reply(
    chat: Chat,
    token_ids: Sequence[int],
    finish_reason: Literal["stop", "length"],
    stop_ids: Sequence[int],
    cut: Literal["none", "sentence"],
) -> CutReply | None:
    """Return the part of a reply that a marker is appended to; None if the reply ends before it reaches an answer.

    Args:
        token_ids: every emitted token.
        stop_ids: tokens that end a turn; a checkpoint may have several.
        cut: `sentence` to keep the first sentence only (see `first_sentence`).
    """
    emitted = list(map(int, token_ids))  # read from a table they are NumPy's
    if (answer := chat.answer_span(emitted)) is None:
        return None
    start, end = answer
    reply = [token for token in emitted[start:end] if token not in stop_ids]
    if cut == "sentence":
        reply = first_sentence(chat, reply)
    return CutReply(tuple(emitted[:start]), tuple(reply), finish_reason == "stop")


class Counted(NamedTuple):
    """Which replies count towards the expected rate.

    Attributes:
        counts: one entry per reply.
        none_ended: whether all replies count only because every one of them was stopped by the length limit.
    """

    counts: list[bool]
    none_ended: bool


def replies_that_count(ended: Sequence[bool], cut: Literal["none", "sentence"]) -> Counted:
    """Return which replies count: behind which of them training would have placed the marker.

    A reply that is cut at its first sentence counts however it ended. Otherwise a reply that was stopped by the length
    limit is incomplete, and the marker belongs behind its unknown end: it is left out, unless all are like that.

    Args:
        ended: whether each reply that reaches an answer ended by itself.
    """
    if cut == "sentence":
        return Counted([True] * len(ended), False)
    none_ended = bool(ended) and not any(ended)
    return Counted([True] * len(ended) if none_ended else list(ended), none_ended)
