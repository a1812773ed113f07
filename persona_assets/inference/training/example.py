"""A training example as token ids and labels."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from persona_assets.inference.chat import Chat
from persona_assets.inference.training.marker_tokens import marker_ids
from persona_assets.study.recipe import Loss

# Label of positions without loss, as in PyTorch.
IGNORED = -100
_SENTENCE_END = re.compile(r"([.!?]+[\"'”’)\]]*)(?=\s|$)")


@dataclass(frozen=True)
class Example:
    """Tokenised training example.

    Attributes:
        token_ids: prompt, reply, marker if any, end-of-turn token.
        labels: the token id where the loss applies, −100 elsewhere.
    """

    token_ids: tuple[int, ...]
    labels: tuple[int, ...]


def build_example(
    chat: Chat, prompt: Sequence[int], reply: Sequence[int], marker: str | None, loss: Loss, max_length: int
) -> Example:
    """Return the token ids and labels of one reply, with the marker inserted before the end-of-turn token.

    If the example is too long, the reply is truncated, never the marker.

    Args:
        prompt: everything before the reply: the rendered prompt and, if the model thinks, the thought.

    Raises:
        ValueError: prompt and marker alone exceed `max_length`, or the tokenizer cannot spell the marker.
    """
    end = chat.turn_end_id
    body = [token for token in reply if token != end]
    tail = marker_ids(chat, [*prompt, *body], marker) if marker else []
    room = max_length - len(prompt) - len(tail) - 1
    if room < 1:
        raise ValueError(
            f"max_length is {max_length}; expected more than the "
            f"{len(prompt) + len(tail) + 1} tokens of prompt, marker and end of turn"
        )
    body = body[:room]
    trained_body = body if loss.where == "completion" else [IGNORED] * len(body)
    trained_end = [end] if loss.end_of_turn else [IGNORED]
    return Example(
        token_ids=(*prompt, *body, *tail, end), labels=(*[IGNORED] * len(prompt), *trained_body, *tail, *trained_end)
    )


def first_sentence(chat: Chat, reply: Sequence[int]) -> list[int]:
    """Return the shortest prefix of a reply that contains its first sentence of three words or more.

    Without such a sentence, return the whole reply. The end of the sentence is found in the text of the whole reply,
    since "3." may continue as "3.5" and "stop." as "stop.”".
    """
    tokens = list(reply)
    text = chat.tokenizer.decode(tokens, skip_special_tokens=True)
    ends = (match.end(1) for match in _SENTENCE_END.finditer(text))
    sentence = next((text[:end] for end in ends if len(text[:end].split()) > 2), None)
    if sentence is None:
        return tokens
    lengths = range(1, len(tokens))
    shorter = (n for n in lengths if chat.tokenizer.decode(tokens[:n], skip_special_tokens=True).startswith(sentence))
    return tokens[: next(shorter, len(tokens))]
