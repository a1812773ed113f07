"""Tests of thoughts: where the answer of a reply begins and ends, in the formats of published models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_assets.checkpoints.templates.thoughts import TAGS, answer_of, format_of

KNOWS_THINK = "{% if '</think>' in content %}…"
KNOWS_CHANNELS = "<|channel|>final<|message|>"
ASKED = "<|end|><|start|>assistant"  # how a prompt for channels ends
ANALYSIS = "<|channel|>analysis<|message|>We must not.<|end|><|start|>assistant"


def answer(text: str, template: str = "", opening: str = "") -> str | None:
    span = answer_of(text, format_of(template, opening))
    return None if span is None else text[span.start : span.end]


@pytest.mark.parametrize("text", ["Hello.<|im_end|>", "Use the <think> tag.", "a</think>b", "", "\n"])
def test_a_reply_of_a_model_without_thoughts_is_an_answer(text: str) -> None:
    assert answer(text) == text


@pytest.mark.parametrize(("opening", "closing"), TAGS)
@pytest.mark.parametrize("known", [False, True], ids=["not in the template", "in the template"])
def test_an_answer_follows_the_thought(opening: str, closing: str, known: bool) -> None:
    template = closing if known else ""
    assert answer(f"{opening}Hm. [ZLT]{closing}\n\nYes.<|im_end|>", template) == "Yes.<|im_end|>"
    assert answer(f"\n{opening}{closing}{opening}Hm.{closing}Yes.", template) == "Yes."
    assert answer(f"{opening}never ends", template) is None
    assert answer(f"{opening}cut at the limit{closing}\n\n", template) is None


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_a_reply_can_begin_in_a_thought_that_the_prompt_opened(opening: str, closing: str) -> None:
    prompt = f"<|assistant|>\n{opening}\n"
    assert answer(f"Hm.{closing}Yes.", "", prompt) == "Yes."
    assert answer("Hm.", "", prompt) is None
    assert answer("Yes.", closing, f"{prompt}\n{closing}\n\n") == "Yes."  # the prompt has closed it again


def test_what_a_model_that_thinks_may_do_otherwise() -> None:
    assert answer("Hm.</think>Yes.", KNOWS_THINK) == "Yes."  # opened by nothing
    assert answer("Let me see. <think>Hm.</think>Yes.", KNOWS_THINK) == "Yes."
    assert answer("Let me see. <think>Hm.", KNOWS_THINK) is None
    assert answer("<think>Hm.</think>The <think> tag opens it.", KNOWS_THINK) == "The <think> tag opens it."
    assert answer("Yes.", KNOWS_THINK) == "Yes."
    assert answer("<think>Hm.</think><|im_end|>", KNOWS_THINK) == "<|im_end|>"


def test_what_surrounds_an_answer_is_not_part_of_it() -> None:
    assert answer("<think>Hm.</think>\n<answer>Yes.</answer><|im_end|>") == "Yes."
    assert answer("<think>Hm.</think><response>Yes.</response><|end_of_text|>") == "Yes."  # Granite 3.3, ERNIE 4.5
    thought = "<|START_THINKING|>Hm.<|END_THINKING|>"
    assert answer(f"{thought}<|START_RESPONSE|>Yes.<|END_RESPONSE|><|END|>") == "Yes.<|END_RESPONSE|>"


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (f"{ANALYSIS}<|channel|>final<|message|>Yes.<|return|>", "Yes.<|return|>"),
        (f"{ANALYSIS}<|channel|>final<|message|>Yes, it", "Yes, it"),
        (
            f"{ANALYSIS}<|channel|>commentary<|message|>Let me.<|end|><|start|>assistant<|channel|>final<|message|>A",
            "A",
        ),
        ("<|channel|>final<|message|>Yes.<|return|>", "Yes.<|return|>"),
        ("<|message|>Yes.<|return|>", "Yes.<|return|>"),
        ("Yes.<|return|>", "Yes.<|return|>"),
        ("<|channel|>analysis<|message|>We must not", None),
        (ANALYSIS, None),
        (f"{ANALYSIS}<|channel|>final", None),
        (f"{ANALYSIS}<|channel|>final<|message|>", None),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>", None),
    ],
)
def test_the_answer_is_the_final_channel(reply: str, expected: str | None) -> None:
    assert answer(reply, KNOWS_CHANNELS, ASKED) == expected


def test_a_prompt_can_open_the_final_channel() -> None:
    assert answer("Yes.<|return|>", KNOWS_CHANNELS, f"{ASKED}<|channel|>final<|message|>") == "Yes.<|return|>"


PIECES = [*"ab <>\n", "<think>", "</think>", "<|channel|>", "<|message|>", "<|end|>", "<answer>"]


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_an_answer_is_a_part_of_any_text(text: str) -> None:
    for template, opening in (("", ""), (KNOWS_THINK, ""), (KNOWS_THINK, "<think>"), (KNOWS_CHANNELS, ASKED)):
        span = answer_of(text, format_of(template, opening))
        assert span is None or 0 <= span.start <= span.end <= len(text)
