"""The report: right numbers, everything in one page, and nothing that a model wrote can act in it."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import spearmanr

from persona_assets.presentation import (
    Link,
    caption,
    headline,
    leakage_headline,
    render_report,
    standard_figures,
    to_svg,
)


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


def test_a_number_leads_to_the_texts_and_runs_that_made_it(eleven, figures):
    run = Link("1a2b3c4d", "http://127.0.0.1:3000/runs/1a2b3c4d?a=1&b=2")
    html = render_report(**eleven.report_inputs() | {"provenance": {"logit_js": {"runs": [run, run]}}}, figures=figures)
    assert html.count('<a href="http://127.0.0.1:3000/runs/1a2b3c4d?a=1&amp;b=2" rel="noopener">') == 2
    targets, anchors = set(re.findall(r'href="#([^"]+)"', html)), set(re.findall(r'id="([^"]+)"', html))
    assert targets
    assert targets <= anchors


def test_a_link_leads_to_the_web_or_is_refused():
    with pytest.raises(ValueError, match="found 'javascript:alert"):
        Link("run", "javascript:alert(1)")


def test_the_page_asks_for_nothing(page):
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page
    # Addresses are images within the page, or places in it to go to.
    assert re.findall(r"""\s(?:src|href|srcset)=["'](?!data:|#said-by-)""", page) == []
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
    assert page.count('src="data:image/svg+xml;base64,') == 4
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


def leakage_of(page: str) -> str:
    return page[page.index("<h2>Leakage</h2>") : page.index("<h2>Every pair</h2>")]


@pytest.fixture(scope="module")
def leaky_figures(eleven):
    tables = (eleven.logit_js_matrix, eleven.centroid_cosine, eleven.leaky_pair_table, "assistant")
    return as_svg(standard_figures(*tables, eleven.leakage_table))


@pytest.fixture(scope="module")
def leaky_page(eleven, leaky_figures):
    return render_report(**eleven.leaky_report_inputs(), figures=leaky_figures)


def test_without_leakage_the_page_says_nothing_of_it(page):
    assert "leak" not in page.lower()
    assert "marker" not in page.lower()


def test_every_dyad_and_every_source_is_on_the_page(leaky_page, eleven):
    section = leakage_of(leaky_page)
    assert section.count(" → <bdi>") == 50
    for row in eleven.leakage_table.itertuples():
        assert f"<td>{row.found}/{row.total}</td>" in section
        assert f"<td>{row.source_found}/{row.source_total}</td>" in section
    assert '<p class="number">0/220 <span class="unit">replies</span></p>' in section
    assert section.count('src="data:image/svg+xml;base64,') == 2
    assert leaky_page.count('src="data:image/svg+xml;base64,') == 6
    assert "predict where a trained-in marker leaks?" in leaky_page


def test_spearman_of_leakage_is_said_as_what_it_is(leaky_page, eleven):
    section = " ".join(leakage_of(leaky_page).split())
    rho = leakage_headline(eleven.leaky_pair_table, eleven.leakage_table)["spearman"]["js"][0]
    assert f"<td>{rho:.2f}</td><td>50</td>".replace("-", "−") in section
    assert "Dyads share sources and targets, and this is one model" in section
    assert "no p value is given" in section


def test_two_replies_with_the_marker_and_two_without_for_every_source(leaky_page, eleven):
    section = leakage_of(leaky_page)
    assert section.count("[ZLT]") == 2 * 5
    assert section.count('<div class="response">') == 4 * 5
    assert section.count("(itself)") >= 2 * 5


def test_what_a_trained_model_wrote_is_shown_and_not_obeyed(eleven, leaky_figures):
    hostile = pd.Series(["<script>alert(1)</script>\u202e[ZLT]\ud800"] * len(eleven.samples), dtype=object)
    samples = eleven.samples.assign(text=hostile)
    html = render_report(**(eleven.leaky_report_inputs() | {"samples": samples}), figures=leaky_figures)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html
    html.encode()


def test_zero_leakage_without_a_base_rate_is_said(eleven, leaky_figures):
    zero = {"leakage_found": 0, "leakage_rate": 0.0, "leakage_low": 0.0}
    pairs = eleven.leaky_pair_table.copy()
    pairs.loc[pairs.leakage_rate.notna(), list(zero)] = list(zero.values())
    table = eleven.leakage_table.assign(found=0, rate=0.0, base_found=np.nan, base_total=np.nan, base_rate=np.nan)
    inputs = eleven.leaky_report_inputs() | {"pair_table": pairs, "leakage_table": table, "samples": None}
    section = " ".join(leakage_of(render_report(**inputs, figures=leaky_figures)).split())
    assert section.count("<td>undefined</td><td>50</td>") == 5
    assert "ρ is undefined where every rate is the same" in section
    assert "The base rate was not measured" in section
    assert "Replies of the trained models" not in section


def test_three_personas_and_one_source_make_a_page(three_with_one_source):
    study = three_with_one_source
    tables = (study.logit_js_matrix, study.centroid_cosine, study.leaky_pair_table)
    figures = as_svg(standard_figures(*tables, leakage_table=study.leakage_table))
    assert leakage_of(render_report(**study.leaky_report_inputs(), figures=figures)).count(" → <bdi>") == 2


def test_captions_of_leakage_say_what_a_rate_is_and_name_the_recipe(eleven):
    for name in ("leakage_heatmap", "leakage_against_predictors"):
        text = caption(name, eleven.logit_js_matrix, eleven.leakage_table)
        for fact in ("found / total", "Wilson 95 %", "Recipe: embedded", "base 0/220"):
            assert fact in text


def test_leakage_headline_counts_and_correlates(eleven):
    numbers = leakage_headline(eleven.leaky_pair_table, eleven.leakage_table)
    dyads = eleven.leaky_pair_table.dropna(subset="leakage_rate")
    own = eleven.leakage_table.drop_duplicates("source")
    assert numbers["base"] == (0, 220)
    assert numbers["source_rates"] == {row.source: (row.source_found, 20) for row in own.itertuples()}
    assert list(numbers["spearman"]) == ["js", *(f"cosine_study_layer{layer}" for layer in (7, 14, 21, 27))]
    for column, (rho, n) in numbers["spearman"].items():
        assert rho == pytest.approx(spearmanr(dyads[column], dyads.leakage_rate).statistic)
        assert n == 50


def test_leakage_headline_passes_over_what_is_missing(eleven):
    pairs = eleven.leaky_pair_table.convert_dtypes()
    measured = pairs.index[pairs.leakage_rate.notna()]
    pairs.loc[measured[:3], "cosine_study_layer7"] = pd.NA
    table = eleven.leakage_table.drop(columns=["base_found", "base_total", "base_rate"])
    numbers = leakage_headline(pairs, table)
    assert numbers["base"] is None
    assert numbers["spearman"]["cosine_study_layer7"][1] == 47
    assert numbers["spearman"]["js"][1] == 50


def test_two_counts_of_one_source_are_refused_by_name(eleven):
    table = eleven.leakage_table.copy()
    table.loc[0, "source_found"] += 1
    with pytest.raises(ValueError, match=r"leakage_table: source assistant: .* expected one count a source"):
        leakage_headline(eleven.leaky_pair_table, table)


def test_figures_stand_in_the_order_of_the_argument(leaky_page):
    titles = re.findall(r'alt="([^"]*)"', leaky_page)
    said = [title for title in titles if title]
    assert said.index(next(t for t in said if "leakage against" in t.lower())) < said.index(
        next(t for t in said if "leakage heatmap" in t.lower())
    )
