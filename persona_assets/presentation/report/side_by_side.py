"""Comparison of two personas' responses to the same question, marked where they diverge."""

import math
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import Markup
from numpy.typing import NDArray

from persona_assets.presentation.report.text import isolated, seen

# Lower JS limits of the colours, in nats; a token below the first limit has no colour.
LIMITS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
# The first colour whose tokens have a tooltip with their JS, and how many tokens are listed below the text.
_TOOLTIP_FROM, _MOST_LISTED = 3, 4
Floats = NDArray[np.float64]
Steps = NDArray[np.int_]
Scored = list[tuple[str, float]]  # tokens with their JS
_WORDS = re.compile(r"\s*\S+|\s+$")


def compare_responses(
    pair: tuple[str, str],
    generations: pd.DataFrame,
    tokens: pd.DataFrame | None = None,
    js_by_question: xr.DataArray | None = None,
) -> dict[str, Any]:
    """Compare the responses of a pair by question, the question with the highest JS first.

    Args:
        generations: one row per response: `persona`, `question`, `text` and, where known, `tokens`, `finish_reason`.
            Untrusted.
        tokens: one row per token of the pair's responses, in order: `persona` (the generator), `other` (the scorer),
            `question`, `piece` (its text, untrusted), `js` (nats). Responses without tokens are compared word by word.
        js_by_question: JS of every pair over (question, persona, other), in nats.

    Returns:
        `pair`; `coloured`: whether any token's JS is known; and `questions`, each with `question`, `js` (nats or NaN),
        `same` (whether the texts are equal), `unit` (token or word) and `sides`, one per persona: `name`, `html`,
        `tokens`, `cut`, `named` (the tokens with the highest JS).
    """
    said = {
        (str(row["persona"]), str(row["question"])): {str(key): value for key, value in row.items()}
        for row in reversed(generations.to_dict("records"))
    }
    scored = _by_response(tokens, pair)
    questions = []
    for question in dict.fromkeys(str(question) for question in generations["question"]):
        responses = [said[name, question] for name in pair if (name, question) in said]
        known = [scored[name, question] for name in pair if (name, question) in scored]
        if len(responses) == len(pair):
            js = _js(js_by_question, question, pair)
            questions.append({"question": question, "js": js, **_compared(responses, known)})
    questions.sort(key=lambda each: -1.0 if math.isnan(each["js"]) else each["js"], reverse=True)
    return {"pair": pair, "coloured": any(each["unit"] == "token" for each in questions), "questions": questions}


def _compared(responses: Sequence[dict[str, Any]], known: Sequence[Scored]) -> dict[str, Any]:
    """Compare two responses to one question: by token if the tokens of both are known, else by word."""
    by_token = len(known) == len(responses)
    scored = known if by_token else [[(word, 0.0) for word in _words(str(row["text"]))] for row in responses]
    units = [[unit for unit, _ in each] for each in scored]
    js = [np.array([value for _, value in each]) for each in scored]
    alike = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(*units, strict=False)))
    return {
        "same": units[0] == units[1],
        "unit": "token" if by_token else "word",
        "sides": [_side(*each, alike) for each in zip(responses, units, js, strict=True)],
    }


def _by_response(tokens: pd.DataFrame | None, pair: tuple[str, str]) -> dict[tuple[str, str], Scored]:
    """Return the tokens of each response of the pair by (persona, question), scored by the other persona."""
    found: dict[tuple[str, str], Scored] = {}
    for row in [] if tokens is None else tokens.to_dict("records"):
        if row["persona"] in pair and row["other"] in pair:
            response = found.setdefault((str(row["persona"]), str(row["question"])), [])
            response.append((str(row["piece"]), float(row["js"])))
    return found


def _words(text: str) -> list[str]:
    return _WORDS.findall(text.replace("\r\n", "\n"))


def _side(row: dict[str, Any], units: Sequence[str], js: Floats, alike: int) -> dict[str, Any]:
    steps = np.digitize(np.nan_to_num(js), LIMITS)
    highest = np.argsort(-np.nan_to_num(js), kind="stable")[:_MOST_LISTED]
    return {
        "name": row["persona"],
        "html": _html(units, js, steps, alike),
        "tokens": row.get("tokens"),
        "cut": row.get("finish_reason") == "length",
        "named": [{"piece": units[at].strip() or "(space)", "js": float(js[at])} for at in highest if steps[at]],
    }


def _html(units: Sequence[str], js: Floats, steps: Steps, alike: int) -> Markup:
    """Return the text with coloured tokens and a mark on the first token or word that differs."""
    parts: list[Markup] = []
    plain: list[str] = []

    def flush() -> None:
        parts.append(seen("".join(plain)))
        plain.clear()

    for place, (unit, step) in enumerate(zip(units, steps.tolist(), strict=True)):
        if not step and place != alike:
            plain.append(unit)
            continue
        flush()
        html = seen(unit)
        if step:
            title = Markup(' title="JS {:.2f}"').format(js[place]) if step >= _TOOLTIP_FROM else Markup("")
            html = Markup('<span class="js{}"{}>{}</span>').format(step, title, html)
        parts.append(Markup('<mark class="part">{}</mark>').format(html) if place == alike else html)
    flush()
    return isolated(Markup("").join(parts))


def _js(js_by_question: xr.DataArray | None, question: str, pair: tuple[str, str]) -> float:
    if js_by_question is None or question not in [str(name) for name in js_by_question["question"].values]:
        return math.nan
    return float(js_by_question.sel(question=question, persona=pair[0], other=pair[1]))
