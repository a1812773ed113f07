"""The report: right numbers, everything in one page, and nothing that a model wrote can act in it."""

import re

import numpy as np
import pytest
import xarray as xr

from persona_assets.presentation import headline, render_report, standard_figures, to_svg


def hand_made(js_ab: float, js_ac: float, js_bc: float) -> tuple[xr.Dataset, xr.Dataset]:
    js = np.array([[0, js_ab, js_ac], [js_ab, 0, js_bc], [js_ac, js_bc, 0]])
    names = ["a", "b", "c"]
    matrix = xr.Dataset(
        {
            name: (("generators", "persona", "other"), (js * by)[None])
            for name, by in (("js", 1), ("js_low", 0.5), ("js_high", 2))
        },
        coords={"generators": ["all"], "persona": names, "other": names},
        attrs={"generators_shown": "all", "level": 0.95, "resamples": 100, "questions": 5, "seed": 0},
    )
    cosine = xr.Dataset(
        {"cosine": (("population", "layer", "persona", "other"), (1 - js)[None, None])},
        coords={"population": ["study"], "layer": [7], "persona": names, "other": names},
    )
    return matrix, cosine


def as_svg(figures):
    return {name: to_svg(figure) for name, figure in figures.items()}


@pytest.fixture(scope="module")
def figures(eleven):
    return as_svg(standard_figures(eleven.logit_js_matrix, eleven.centroid_cosine, eleven.pair_table, "assistant"))


@pytest.fixture(scope="module")
def page(eleven, figures):
    return render_report(**eleven.report_inputs(), figures=figures)


def test_headline_of_a_matrix_made_by_hand():
    numbers = headline(*hand_made(0.1, 0.3, 0.2))
    assert (numbers["js_min"], numbers["js_max"], numbers["pairs"]) == (0.1, 0.3, 3)
    assert numbers["js_mean"] == pytest.approx(0.2)
    assert numbers["most_similar"] == ("a", "b")
    assert numbers["most_divergent"] == ("a", "c")
    assert numbers["most_divergent_js"] == {"js": 0.3, "js_low": 0.15, "js_high": 0.6}
    assert numbers["most_similar_cosine"] == {"study": {7: pytest.approx(0.9)}}


def test_headline_of_a_one_sided_subset_takes_the_pair(eleven):
    numbers = headline(eleven.logit_js_matrix.assign_attrs(generators_shown="source"), eleven.centroid_cosine)
    assert numbers["generators"] == "pair"


def test_headline_without_any_js_is_refused_by_name():
    matrix, cosine = hand_made(np.nan, np.nan, np.nan)
    with pytest.raises(ValueError, match=r"logit_js_matrix: .*no pair of 3 personas has a value"):
        headline(matrix, cosine)


def hostile(eleven, figures, text: str) -> str:
    generations = eleven.generations.astype({"text": object})  # a string column could not hold a lone surrogate
    generations.loc[0, "text"] = text
    return render_report(**(eleven.report_inputs() | {"generations": generations}), figures=figures)


def test_markup_in_a_response_is_shown_and_not_obeyed(eleven, figures):
    html = hostile(eleven, figures, '<script>alert(1)</script><img src="https://example.org/x" onerror=a()>{{ 7 * 7 }}')
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=&#34;https" in html
    assert "{{ 7 * 7 }}" in html


@pytest.mark.parametrize("code", [0x202E, 0x2066, 0x200B, 0x00, 0x1B, 0xD800, 0xE0041])
def test_characters_that_cannot_be_seen_are_written_out(eleven, figures, code):
    html = hostile(eleven, figures, f"left{chr(code)}right")
    assert chr(code) not in html
    assert f'left<span class="unseen">U+{code:04X}</span>right' in html
    html.encode()


def test_markup_in_provenance_and_study_is_escaped(eleven, figures):
    inputs = eleven.report_inputs() | {"provenance": {"<b>key": ["<i>value", {"deep": "<u>\u202e"}]}, "title": "<s>t"}
    html = render_report(**inputs, figures=figures)
    assert not re.search(r"<b>key|<i>value|<u>|<s>|\u202e", html)


def test_the_page_asks_for_nothing(page):
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    assert re.findall(r"""\s(?:src|href|srcset)=["'](?!data:)""", page) == []
    assert not re.search(r"url\(|@import", page)
    assert not re.search(r"<(?:script|link|iframe|object|embed|form|base)\b", page)
    assert not re.search(r"<[^>]+\son[a-z]+=", page)


def test_the_page_is_small(page):
    assert len(page.encode()) < 5_000_000


def test_every_pair_and_every_response_is_on_the_page(page, eleven):
    table = page[page.index('<table class="pairs">') : page.index("</table>")]
    assert table.count('<th scope="row">') == 55
    assert page.count("<details>") == 11
    divergent = headline(eleven.logit_js_matrix, eleven.centroid_cosine)["most_divergent"]
    twice = eleven.generations.persona.isin(divergent).sum()
    assert page.count('<div class="response">') == len(eleven.generations) + twice
    assert page.count("cut off at the limit") >= (eleven.generations.finish_reason == "length").sum()


def test_every_figure_is_embedded_with_what_it_shows(page):
    assert page.count('src="data:image/svg+xml;base64,') == 3
    assert "over the responses of every generator to 20 questions" in " ".join(page.split())
    assert "centring population “study”" in page
    assert "95% intervals, bootstrap over questions, 1000 resamples" in page


def test_how_it_was_made_is_on_the_page(page):
    for fact in ("a09a35458c702b33eeacc393d103063234e8bc28", "NVIDIA H100 80GB HBM3", "184.2", "max new tokens"):
        assert fact in page


def test_few_personas_and_no_responses_make_a_page(few):
    figures = as_svg(standard_figures(few.logit_js_matrix, few.centroid_cosine, few.pair_table))
    inputs = few.report_inputs() | {"generations": few.generations.iloc[:0], "study": {}, "checkpoint": {}}
    assert "made without responses" in render_report(**inputs, figures=figures)
