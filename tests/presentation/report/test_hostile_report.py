"""Untrusted text from models, prompts, questions and files stays plain text in the page and in Markdown."""

import re
from typing import Any

import pandas as pd
import pytest

from persona_assets.presentation import Link, render_markdown, render_report, report_files
from persona_assets.presentation.report.text import fenced, markdown, marked
from tests.presentation.by_hand import PRIMARY, statements_by_hand, verdict_by_hand
from tests.presentation.conftest import Synthetic
from tests.presentation.pages import assert_harmless, read_page

ATTACKS = [
    "<script>window.taken = true</script>",
    "</script><script>window.taken = true</script>",
    '"><img src=x onerror="window.taken = true">',
    "' onmouseover='window.taken = true' x='",
    "</style></title></textarea></div></main><svg onload=window.taken=true>",
    "<!-- --><base href=https://example.org/><meta http-equiv=refresh content=0>",
    "{{ 7 * 7 }}{% raw %}{# gone #}",
    "javascript:window.taken=true",
    "\u202egnp.exe\u2066 \u200b\u2028\x00\x1b[31m\ud800\U000e0041",
    "&lt;b&gt; &#x202e; &copy",
]
ATTACK = " ".join(ATTACKS)


def hostile_inputs(study: Synthetic) -> dict[str, Any]:
    """Return report inputs in which every untrusted field contains all the attacks."""

    def attacked(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        # A string column cannot store a lone surrogate.
        hostile = {name: pd.Series([f"{ATTACK} {value}" for value in table[name]], dtype=object) for name in columns}
        return table.assign(**hostile)

    generations = attacked(study.generations, "question", "text")
    pairs = study.logit_js_matrix
    question = generations.question.iloc[0]
    names = study.names
    tokens = pd.DataFrame(
        [(a, b, question, piece, 0.3) for a in names for b in names if a != b for piece in ATTACKS],
        columns=["persona", "other", "question", "piece", "js"],
        dtype=object,
    )
    return study.leaky_report_inputs() | {
        "title": f"Personas of {ATTACK}",
        "study": {
            "name": ATTACK,
            "personas": {name: {"prompt": ATTACK} for name in names},
            ATTACK: [ATTACK, {"a": ATTACK}],
        },
        "checkpoint": {"name": ATTACK, "digest": ATTACK, "files": {f"{ATTACK}.json": ATTACK}},
        "provenance": {"made": "2026-01-01", "imported": {ATTACK: ATTACK}, "checks": {ATTACK: f"failed: {ATTACK}"}},
        "generations": generations,
        "samples": attacked(study.samples, "question", "text"),
        "logit_js_matrix": pairs.assign_coords(question=list(dict.fromkeys(generations.question))),
        "tokens": tokens,
        "marker": "<script>",
        "statements": statements_by_hand(),
        "verdict": verdict_by_hand(),
        "primary_cosine": PRIMARY,
    }


@pytest.fixture(scope="module")
def hostile(few_personas: Synthetic) -> str:
    return render_report(**hostile_inputs(few_personas), figures={})


@pytest.fixture(scope="module")
def few_personas() -> Synthetic:
    return Synthetic(3, questions=4)


def test_attacks_have_no_effect_in_the_page(hostile):
    page = read_page(hostile)
    assert_harmless(page)
    assert not [element for element in page.all() if element.tag in {"b", "img"} and "class" not in element.attributes]


def test_invisible_characters_are_written_out_everywhere(hostile):
    assert not re.search("[\u202e\u2066\u200b\u2028\x00\x1b\ud800\U000e0041]", hostile)
    assert hostile.count("U+202E") > 50
    hostile.encode()


def test_attacks_stay_readable_as_text(hostile, few_personas):
    page = read_page(hostile)
    shown = ATTACK
    for unseen in "\u202e\u2066\u200b\u2028\x00\x1b\ud800\U000e0041":
        shown = shown.replace(unseen, f"U+{ord(unseen):04X}")
    said = [response.text for response in page.one("section", id="responses").all(class_="response")]
    assert said == [f"{shown} {text}" for text in few_personas.generations.text]
    for place in ("header", "nav", "select", "main"):
        assert page.all(place)
    assert shown in page.one("h1").text
    assert page.one("section", id="made").text.count(shown) > 5
    assert all(option.text.startswith(shown) for option in page.one("select").all("option"))


def test_token_pieces_are_escaped(hostile):
    page = read_page(hostile)
    tokens = [span.text for span in page.one("section", id="texts").all("span", class_="js4")]
    assert {"<script>window.taken = true</script>", "{{ 7 * 7 }}{% raw %}{# gone #}"} <= set(tokens)


def test_a_marker_that_is_markup_is_highlighted_and_escaped():
    found = marked("a <SCRIPT>b</script>\u202e", "<script>")
    assert found == '<bdi>a <mark>&lt;SCRIPT&gt;</mark>b&lt;/script&gt;<span class="unseen">U+202E</span></bdi>'
    assert marked("a.b", "") == "<bdi>a.b</bdi>"


def test_untrusted_text_in_markdown_is_escaped_or_code(few_personas):
    inputs = hostile_inputs(few_personas)
    wanted = ("title", "study", "checkpoint", "provenance", "logit_js_matrix", "centroid_cosine", "generations")
    inference = ("statements", "verdict", "primary_cosine")
    text = render_markdown(**{name: inputs[name] for name in (*wanted, *inference)})
    assert not re.search("[\u202e\u2066\u200b\u2028\x00\x1b\ud800]", text)
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert text.count("```text") == 2
    assert not re.search(r"(?<!\\)<(?!http)", outside)
    assert "\\<script\\>" in outside


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b", r"a\|b"),
        ("*a* _b_ `c` ~d~", r"\*a\* \_b\_ \`c\` \~d\~"),
        ("@someone #12", r"\@someone \#12"),
        ("[a](https://b) www.c.org", r"\[a\](https\://b) www\.c.org"),
        ("<b>&amp;\\", r"\<b\>\&amp;\\"),
        ("two\nlines\u202e", "two linesU+202E"),
    ],
)
def test_markdown_syntax_in_a_line_is_escaped(text, written):
    assert markdown(text) == written


def test_a_fence_is_longer_than_any_in_the_text():
    assert fenced("a\n```\nb\n````") == "`````text\na\n```\nb\n````\n`````"


def test_markdown_shows_only_the_text_of_a_link(few_personas):
    inputs = few_personas.report_inputs() | {
        "provenance": {
            "made": "2026-01-01",
            "stages": {"generations": {"runs": [Link("a]b", "http://127.0.0.1/runs/1?(")]}},
        }
    }
    inputs.pop("pair_table")
    assert r"- generations: runs a\]b" in render_markdown(**inputs)


def test_hostile_inputs_give_a_harmless_report_with_all_files(few_personas):
    inputs = hostile_inputs(few_personas) | {"figures": {}}
    inputs["provenance"] = {**inputs["provenance"], "persona assets": ATTACK}
    inputs["study"] = {**inputs["study"], "digest": ATTACK, "imported": True}
    files = report_files(**inputs)
    page = read_page(files["report.html"].decode())
    assert_harmless(page)
    assert "cite its authors first" in page.one("section", id="cite").words
