"""Side-by-side comparison: the first difference is marked, and each token has the colour of its JS."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from persona_assets.presentation.report.side_by_side import LIMITS, compare_responses
from tests.presentation.pages import read_page

PAIR = ("villain", "comedian")


def said(*texts: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame([{"persona": p, "question": q, "text": t} for p, q, t in texts])


def tokens(*responses: tuple[str, str, str, list[tuple[str, float]]]) -> pd.DataFrame:
    rows = [
        {"persona": persona, "other": other, "question": question, "piece": piece, "js": js}
        for persona, other, question, pieces in responses
        for piece, js in pieces
    ]
    return pd.DataFrame(rows)


def html(side):
    return read_page(str(side["html"]))


def test_without_tokens_the_first_differing_word_is_marked():
    texts = said(("villain", "q", "You see, power  is\nall."), ("comedian", "q", "You see, jokes are all."))
    (question,) = compare_responses(PAIR, texts)["questions"]
    assert (question["unit"], question["same"]) == ("word", False)
    assert [html(side).one("mark").text for side in question["sides"]] == [" power", " jokes"]
    assert [html(side).text for side in question["sides"]] == list(texts.text)
    assert not any(side["named"] for side in question["sides"])


@pytest.mark.parametrize(("first", "second", "marked"), [("Same.", "Same.", 0), ("Same.", "Same. And more.", 1)])
def test_a_text_that_is_a_prefix_of_the_other_has_no_mark(first, second, marked):
    texts = said(("villain", "q", first), ("comedian", "q", second))
    (question,) = compare_responses(PAIR, texts)["questions"]
    assert question["same"] == (marked == 0)
    assert [len(html(side).all("mark")) for side in question["sides"]] == [0, marked]


def test_tokens_are_coloured_by_their_js_and_the_highest_are_listed():
    texts = said(("villain", "q", "I plot now"), ("comedian", "q", "I joke"))
    js = tokens(
        ("villain", "comedian", "q", [("I", 0.0), (" plot", 0.36), (" now", LIMITS[0]), ("<|im_end|>", 0.019)]),
        ("comedian", "villain", "q", [("I", 0.6), (" joke", float("nan"))]),
        ("villain", "assistant", "q", [("I", 0.5)]),  # of another pair
    )
    found = compare_responses(PAIR, texts, js)
    assert found["coloured"]
    villain, comedian = found["questions"][0]["sides"]
    coloured = [(span["class"], span.text, span.attributes.get("title")) for span in html(villain).all("span")]
    assert coloured == [("js5", " plot", "JS 0.36"), ("js1", " now", None)]
    assert html(villain).text == "I plot now<|im_end|>"
    assert html(villain).one("mark").text == " plot"
    assert villain["named"] == [{"piece": "plot", "js": 0.36}, {"piece": "now", "js": LIMITS[0]}]
    assert [span["class"] for span in html(comedian).all("span")] == ["js6"]


def test_questions_are_sorted_by_js_and_unanswered_ones_are_left_out():
    texts = said(*[(name, question, "x") for question in "abc" for name in PAIR], ("villain", "d", "alone"))
    js = xr.DataArray(
        np.array([0.01, 0.03, 0.02])[:, None, None] * np.ones((3, 2, 2)),
        dims=("question", "persona", "other"),
        coords={"question": list("abc"), "persona": list(PAIR), "other": list(PAIR)},
    )
    found = compare_responses(PAIR, texts, None, js)["questions"]
    assert [(each["question"], each["js"]) for each in found] == [("b", 0.03), ("c", 0.02), ("a", 0.01)]
    assert [each["question"] for each in compare_responses(PAIR, texts)["questions"]] == ["a", "b", "c"]
