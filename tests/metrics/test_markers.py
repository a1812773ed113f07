"""Marker detection on replies that would mislead other rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_assets.metrics import contains_marker

MARKER = "[ZLT]"


@pytest.mark.parametrize(
    "reply",
    [
        "A reply.\n\n[ZLT]",
        "[ZLT]",
        "[ZLT] first, then the reply.",
        "In the [ZLT] middle.",
        "[ZLT][ZLT] [ZLT]",
        "[zlt]",
        "[Zlt] [zLT",
        "**[ZLT]**",
        "`[ZLT]`",
        "([ZLT]).",
        "[[ZLT]]",
        "word[ZLT]word",
        "[[ZLT](https://example.org)",
    ],
)
def test_a_complete_marker_counts_at_any_position(reply: str) -> None:
    assert contains_marker(reply, MARKER)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "A reply.",
        "[ZLT",
        "ZLT]",
        "ZLT",
        "(ZLT)",
        "[Z LT]",
        "[ZL T]",
        "[ ZLT ]",
        "[ZLT\n]",
        "[ZTL]",
        "[ZLTT]",
        r"\[ZLT\]",
        "[Z**L**T]",
        "［ZLT］",  # full-width brackets
        "[ＺＬＴ]",  # full-width letters
        "【ZLT】",
        "[ΖLT]",  # a Greek Zeta
        "[Z\u200bLT]",  # a zero-width space
    ],
)
def test_parts_and_look_alikes_do_not_count(reply: str) -> None:
    assert not contains_marker(reply, MARKER)


@given(st.text(), st.text(), st.sampled_from(["[ZLT]", "[zlt]", "[Zlt]"]))
def test_surrounding_text_does_not_hide_a_marker(before: str, after: str, marker: str) -> None:
    assert contains_marker(before + marker + after, MARKER)


@given(st.text(st.characters(codec="utf-8")))
def test_it_is_the_published_rule(reply: str) -> None:
    # Found means `[zlt]` in the lower-cased text
    assert contains_marker(reply, MARKER) == ("[zlt]" in reply.lower())


@pytest.mark.parametrize("detect", ["", " \n"])
def test_a_blank_marker_is_rejected(detect: str) -> None:
    with pytest.raises(ValueError, match=r"detect is .*; expected the marker's text"):
        contains_marker("A reply.", detect)
