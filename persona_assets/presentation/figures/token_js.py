"""JS at every token of a response, with the text of the tokens below."""

from functools import cache

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from persona_assets.presentation.layout.correlation import Floats, numbers
from persona_assets.presentation.layout.panels import KEY_POINTS, LINE, MARGIN, TITLE, padded, write_lines
from persona_assets.presentation.layout.style import (
    BLUE,
    INK,
    MM_PER_POINT,
    MUTED,
    TWO_COLUMNS,
    add_axes,
    add_text,
    display_name,
    house_style,
    new_figure,
    text_width,
    wrapped,
)

# Millimetres and points.
_POINTS = 6.5
_LEFT, _RIGHT, _ALONG, _AXIS, _ROW, _BARS, _MOST_ROWS = 12.0, 3.0, 18.0, 10.0, 9.0, 5.0, 12
_QUIET = "#d9d9d9"
_COLUMNS = ("persona", "other", "question", "piece", "js")
# Symbols for a line break, a tab, and characters that the font lacks.
_BREAK, _TAB, _UNKNOWN = "↵", "→", "▯"


def js_along_response(tokens: pd.DataFrame, width: float = TWO_COLUMNS) -> Figure:
    """Draw JS along the response with the highest mean JS, and below it the lines with the most JS token by token.

    Args:
        tokens: one row per token, in order: `persona` (the generator), `other` (the other scorer), `question`, `piece`
            (the token's text, including spaces) and `js` (nats) between the two.
        width: width of the figure, in millimetres.

    Raises:
        ValueError: a column is missing, or no token has a JS.
    """
    if absent := [name for name in _COLUMNS if name not in tokens.columns]:
        raise ValueError(f"tokens: found columns {list(tokens.columns)}; expected also {absent}")
    means = tokens.groupby(["persona", "other", "question"], sort=False)["js"].mean()
    if not means.notna().any():
        raise ValueError(f"tokens: found {len(tokens)} rows without JS; expected JS in at least one response")
    generator, scorer, question = (str(name) for name in means.index[int(means.fillna(-1.0).to_numpy().argmax())])
    of = (tokens["persona"] == generator) & (tokens["other"] == scorer) & (tokens["question"] == question)
    js, texts = numbers(tokens.loc[of, "js"]), [_shown(str(piece)) for piece in tokens.loc[of, "piece"]]
    room = width - 2 * MARGIN
    rows = _rows(texts, room)
    first = _densest(rows, js)
    shown = rows[first : first + _MOST_ROWS]
    said = f"written by {display_name(generator)}, scored under {display_name(scorer)} · {len(js)} tokens"
    said += f", mean {np.nanmean(js):.3f} nats"
    begins, ends = shown[0][0], shown[-1][-1]
    part = "" if len(shown) == len(rows) else f" · spelled out: tokens {begins + 1} to {ends + 1}, dark above"
    asked = wrapped(f"“{_shown(question, line_break=' ')}”", KEY_POINTS, room)[:2]
    subtitle = [*asked, *wrapped(said + part, KEY_POINTS, room)]
    top = MARGIN + TITLE + len(subtitle) * LINE + 2.0
    below = top + _ALONG + _AXIS
    with house_style():
        figure = new_figure(width, below + len(shown) * _ROW + MARGIN)
        title = "Where two personas part, token by token"
        add_text(figure, MARGIN, MARGIN, title, weight="bold", size=8, color=INK)
        write_lines(figure, MARGIN + TITLE, subtitle, KEY_POINTS)
        axes = add_axes(figure, _LEFT, top, width - _LEFT - _RIGHT, _ALONG)
        _draw_along(axes, js, (begins, ends))
        highest = float(np.nanmax(js, initial=1e-9))
        for number, row in enumerate(shown):
            place = below + number * _ROW
            _draw_row(add_axes(figure, MARGIN, place, room, _ROW), [texts[at] for at in row], js[row], room, highest)
    return figure


def _draw_along(axes: Axes, js: Floats, spelled: tuple[int, int]) -> None:
    at = np.arange(len(js)) + 1
    within = (at > spelled[0]) & (at <= spelled[1] + 1)
    for kept, colour in ((~within, "#9ecae1"), (within, BLUE)):
        axes.vlines(at[kept], 0, js[kept], color=colour, linewidth=max(0.4, min(2.0, 300 / len(js))), zorder=2)
    axes.set(xlim=padded(at.astype(float), 0.01), ylim=(0, 1.08 * float(np.nanmax(js, initial=1e-9))))
    axes.locator_params(axis="x", integer=True)
    axes.locator_params(axis="y", nbins=3)
    axes.set_xlabel("token of the response")
    axes.set_ylabel("JS (nats)")


def _draw_row(axes: Axes, texts: list[str], js: Floats, width: float, highest: float) -> None:
    """Draw a line of the response, each token below a bar of the same width."""
    axes.set(xlim=(0, width), ylim=(0, _ROW))
    axes.set_axis_off()
    floor = _ROW - _BARS
    starts = np.cumsum([0.0, *(_wide(text) for text in texts)])
    for text, value, start, end in zip(texts, js, starts[:-1], starts[1:], strict=True):
        inset = min(0.12, (end - start) / 4)
        axes.plot([start + inset, end - inset], [floor, floor], color=_QUIET, linewidth=0.5, solid_capstyle="butt")
        if np.isfinite(value):
            tall = 0.96 * _BARS * value / highest
            axes.bar((start + end) / 2, tall, end - start - 2 * inset, bottom=floor, color=BLUE, linewidth=0)
        loud = np.isfinite(value) and value > highest / 3
        lead = _spaces(text) * _space()
        axes.text(
            start + lead,
            floor - 0.9,
            text.lstrip(" "),
            size=_POINTS,
            color=INK if loud else MUTED,
            va="top",
        )


def _rows(texts: list[str], room: float) -> list[list[int]]:
    """Return the token numbers of each line; line breaks in the response end a line."""
    rows: list[list[int]] = [[]]
    filled = 0.0
    for number, text in enumerate(texts):
        ended = number > 0 and _BREAK in texts[number - 1] and text.strip(_BREAK + " ")
        if rows[-1] and (filled + _wide(text) > room or ended):
            rows.append([])
            filled = 0.0
        rows[-1].append(number)
        filled += _wide(text)
    return rows


def _densest(rows: list[list[int]], js: Floats) -> int:
    """Return the first line of the window of shown lines with the most JS; the earliest among equals."""
    sums = np.array([np.nansum(js[row]) for row in rows])
    windows = np.convolve(sums, np.ones(min(_MOST_ROWS, len(rows))), mode="valid")
    return int(np.argmax(windows.round(9)))


def _shown(text: str, line_break: str = _BREAK) -> str:
    """Replace characters that are invisible or missing from the font by boxes, and line breaks by symbols."""
    text = text.replace("\r\n", "\n")
    spelled = {"\n": line_break, "\t": _TAB}
    return "".join(spelled.get(one, one if _drawable(one) else _UNKNOWN) for one in text)


@cache
def _drawable(character: str) -> bool:
    font = get_font(findfont(FontProperties(family="DejaVu Sans")))
    return character.isprintable() and ord(character) in font.get_charmap()


def _wide(text: str) -> float:
    words = text.strip(" ")
    spaces = len(text) - len(words)
    return (text_width(words, _POINTS) + 0.25 if words else 0.6) + spaces * _space()


def _spaces(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _space() -> float:
    return 0.318 * _POINTS * MM_PER_POINT  # advance width of DejaVu Sans's space
