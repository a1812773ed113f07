"""Thoughts in replies: which format a model writes them in, and where its answer begins and ends."""

import re
from collections.abc import Sequence
from typing import NamedTuple

# Opening and closing text of a thought. The spellings are those of Qwen 3 and DeepSeek R1, of Magistral, Seed-OSS,
# Command A, Gemma 4, Kimi, Apertus, Granite 3.2 (two sentences), and of fine-tunes that follow published prompts.
TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("◁think▷", "◁/think▷"),
    ("Here is my thought process:", "Here is my response:"),
)
# What some models put around the answer that follows a thought.
_WRAPPERS = (
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
    ("<answer>", "</answer>"),
    ("<response>", "</response>"),
)
HARMONY = "harmony channels"
_MESSAGE = re.compile(
    r"(?P<head>(?:(?!<\|(?:message|end|return)\|>).)*)<\|message\|>"
    r"(?P<body>.*?)(?P<end><\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>)|\Z)",
    re.DOTALL,
)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
Tag = tuple[str, str]


class Span(NamedTuple):
    """Characters [start, end) of a reply that are its answer."""

    start: int
    end: int


class Format(NamedTuple):
    """How a model writes thoughts.

    Attributes:
        harmony: whether it writes channels, as gpt-oss does.
        tags: the tags that its chat template names.
        opening: the text with which the assistant's turn begins.
    """

    harmony: bool
    tags: tuple[Tag, ...]
    opening: str = ""

    @property
    def name(self) -> str | None:
        """Return the name that is shown and stored; None if the template knows no thoughts."""
        return HARMONY if self.harmony else self.tags[0][0] if self.tags else None

    @property
    def opened(self) -> Tag | None:
        """Return the tag of the thought that the prompt opens, so that the reply begins in it; None without one."""
        found = [(self.opening.rfind(tag[0]), tag) for tag in TAGS if tag[0] in self.opening]
        place, tag = max(found, default=(-1, ("", "")))
        return tag if place >= 0 and self.opening.rfind(tag[1]) < place else None


def format_of(template: str, opening: str = "") -> Format:
    """Return the format of thoughts that a chat template knows."""
    harmony = "<|channel|>" in template and "<|message|>" in template
    return Format(harmony, tuple(tag for tag in TAGS if tag[1] in template or tag[0] in opening), opening)


def answer_of(text: str, known: Format) -> Span | None:
    """Return the part of a reply that is its answer; None if the reply ends before it reaches one.

    A reply without thoughts is an answer as a whole. Of several final messages, the last one counts.

    Args:
        text: the reply with its special tokens.
    """
    if known.harmony:
        return _final_channel(text, known.opening.rpartition("<|start|>")[2])
    start = _after_thoughts(text, known)
    if start == 0:
        return Span(0, len(text))
    return None if start is None or not text[start:].strip() else _unwrapped(text, Span(start, len(text)))


def _after_thoughts(text: str, known: Format) -> int | None:
    """Return where the thoughts of a reply end; 0 if there are none, None if the last one is cut off.

    A thought begins where the prompt has opened one, at the beginning of the reply, or, if the chat template knows the
    tag, anywhere before the answer. Tags within an answer that follows a thought are text.
    """
    place, inside = 0, known.opened
    if inside is None and (closed := _first(text, 0, known.tags, closing=True)):
        end, tag = closed
        if tag[0] not in text[:end]:  # the reply began in a thought that nothing opened
            place = end + len(tag[1])
    while True:
        if inside is None:
            opened = _first(text, place, TAGS)
            if opened is None or text[place : opened[0]].strip():
                # Behind other text a tag opens a thought only if the template knows it and nothing was thought before.
                opened = _first(text, place, known.tags) if place == 0 else None
            if opened is None:
                return place
            place, inside = opened[0] + len(opened[1][0]), opened[1]
        end = text.find(inside[1], place)
        if end < 0:
            return None
        place, inside = end + len(inside[1]), None


def _first(text: str, place: int, tags: Sequence[Tag], closing: bool = False) -> tuple[int, Tag] | None:
    """Return the first opening (or closing) tag from a place on."""
    found = [(at, tag) for tag in tags if (at := text.find(tag[closing], place)) >= 0]
    return min(found, default=None)


def _unwrapped(text: str, part: Span) -> Span:
    """Return an answer without white space before it and without what a model puts around it."""
    start, end = part.start + len(text[part.start : part.end]) - len(text[part.start : part.end].lstrip()), part.end
    for opening, closing in _WRAPPERS:
        if text.startswith(opening, start):
            start += len(opening)
            if (found := text.find(closing, start, end)) >= 0:
                # A closing token ends the turn and is scored like any end of turn; closing text is not the answer's.
                end = found + len(closing) if closing.startswith("<|") else found
    return Span(start, end)


def _final_channel(text: str, opening: str) -> Span | None:
    """Return the body of the last message to the user, with the token that ends it.

    Args:
        opening: the message's header as far as the prompt has it, such as `assistant`.
    """
    whole, shift = opening + text, len(opening)
    if "<|message|>" not in whole:
        return None if "<|channel|>" in whole else Span(0, len(text))
    answer = None
    for message in _MESSAGE.finditer(whole):
        channel = _CHANNEL.search(message["head"])
        is_final = channel[1] == "final" if channel else message["end"] != "<|call|>"
        if is_final and message.end() > message.start("body"):
            answer = Span(max(0, message.start("body") - shift), message.end() - shift)
    return answer
