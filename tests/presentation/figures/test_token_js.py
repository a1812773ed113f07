"""JS along a response: the response with the highest mean, one bar per token, no missing glyphs."""

import warnings

import numpy as np
import pandas as pd
import pytest

from persona_assets.presentation import js_along_response, to_png
from tests.presentation.figures.test_standard import overflowing, texts


def tokens(pieces: list[str], js: list[float], question: str = "Who?", persona: str = "villain") -> pd.DataFrame:
    return pd.DataFrame({"persona": persona, "other": "comedian", "question": question, "piece": pieces, "js": js})


def test_the_response_with_the_highest_mean_is_drawn() -> None:
    table = pd.concat(
        [tokens(["a", " b"], [0.5, 0.0]), tokens(["c", " d"], [0.3, 0.3], "Why?"), tokens(["e"], [0.1], "Why?", "monk")]
    )
    shown = texts(js_along_response(table))
    assert "“Why?”" in shown
    assert "written by villain, scored under comedian · 2 tokens, mean 0.300 nats" in shown
    assert {"c", "d"} <= set(shown)
    assert not {"a", "e"} & set(shown)


def test_bar_heights_are_js_and_bars_are_above_their_tokens() -> None:
    figure = js_along_response(tokens(["one", " two", " three"], [0.1, 0.4, 0.2]))
    along, row = figure.axes
    (segments,) = (np.array(lines.get_segments()) for lines in along.collections if len(lines.get_segments()))
    np.testing.assert_allclose(segments[:, 1, 1], [0.1, 0.4, 0.2])
    bars = row.patches
    heights = np.array([bar.get_height() for bar in bars])
    np.testing.assert_allclose(heights / heights.max(), [0.25, 1.0, 0.5])
    for bar, text in zip(bars, row.texts, strict=True):
        assert bar.get_x() - 0.2 <= text.get_position()[0] <= bar.get_x() + bar.get_width()


def test_a_long_response_shows_the_lines_with_the_most_js() -> None:
    js = [0.01] * 2000
    js[1500] = 0.6
    figure = js_along_response(tokens([" word"] * 1500 + [" here"] + [" word"] * 499, js))
    said = " ".join(texts(figure))
    assert "here" in texts(figure)
    assert "spelled out: tokens" in said
    assert len(figure.axes) == 1 + 12
    assert overflowing(figure) == []


def test_a_line_break_ends_a_line_and_empty_lines_take_none() -> None:
    figure = js_along_response(tokens(["a", "\n", "\n\n", "b"], [0.1] * 4))
    assert [[text.get_text() for text in axes.texts] for axes in figure.axes[1:]] == [["a", "↵", "↵↵"], ["b"]]


def test_missing_and_invisible_characters_are_boxes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = js_along_response(tokens(["你", "\u202e", " $x_1$", "<b>", "\x00", ""], [0.1] * 6, "\u202eWho\n?"))
        to_png(figure)
    assert [text.get_text() for text in figure.axes[1].texts] == ["▯", "▯", "$x_1$", "<b>", "▯", ""]
    assert "“▯Who ?”" in texts(figure)


def test_tokens_without_js_are_rejected() -> None:
    with pytest.raises(ValueError, match="tokens: found 1 rows without JS"):
        js_along_response(tokens(["a"], [float("nan")]))
    with pytest.raises(ValueError, match=r"expected also \['piece', 'js'\]"):
        js_along_response(tokens(["a"], [0.1]).drop(columns=["piece", "js"]))
