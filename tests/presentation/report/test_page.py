"""The report: correct numbers, a self-contained page, and model text that stays text."""

import base64
import hashlib
import re
from itertools import pairwise

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
from persona_assets.presentation.figures.leakage_captions import LEAKAGE_FIGURES
from persona_assets.presentation.figures.map import map_of_personas
from persona_assets.presentation.report.embedding import minify_svg
from tests.presentation.conftest import Synthetic
from tests.presentation.pages import SCRIPT, Element, assert_harmless, read_page


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
def figures(leaky_figures):
    return {name: svg for name, svg in leaky_figures.items() if name not in LEAKAGE_FIGURES}


@pytest.fixture(scope="module")
def page(eleven, figures):
    return render_report(**eleven.report_inputs(), figures=figures)


def test_headline_of_a_handmade_matrix():
    numbers = headline(*hand_made(0.1, 0.3, 0.2))
    assert (numbers["js_min"], numbers["js_max"], numbers["pairs"]) == (0.1, 0.3, 3)
    assert numbers["js_mean"] == pytest.approx(0.2)
    assert numbers["most_similar"] == ("a", "b")
    assert numbers["most_divergent"] == ("a", "c")
    assert numbers["most_divergent_js"] == {"js": 0.3, "js_low": 0.15, "js_high": 0.6}
    assert numbers["most_similar_cosine"] == {"study": {7: pytest.approx(0.9)}}


def test_headline_of_a_one_sided_subset_uses_the_subset_pair(eleven):
    numbers = headline(eleven.logit_js_matrix.assign_attrs(generators_shown="source"), eleven.centroid_cosine)
    assert numbers["generators"] == "pair"


def test_headline_without_any_js_is_rejected():
    matrix, cosine = hand_made(np.nan, np.nan, np.nan)
    with pytest.raises(ValueError, match=r"logit_js_matrix: .*no pair of 3 personas has a value"):
        headline(matrix, cosine)


def hostile(eleven, figures, text: str) -> str:
    generations = eleven.generations.astype({"text": object})  # a string column cannot store a lone surrogate
    generations.loc[0, "text"] = text
    return render_report(**(eleven.report_inputs() | {"generations": generations}), figures=figures)


def test_markup_in_a_response_is_escaped(eleven, figures):
    text = '</div></script><script>alert(1)</script><img src="https://example.org/x" onerror=a()>{{ 7 * 7 }}'
    page = read_page(hostile(eleven, figures, text))
    assert_harmless(page)
    assert text in [response.text for response in page.all(class_="response")]


@pytest.mark.parametrize("code", [0x202E, 0x2066, 0x200B, 0x00, 0x1B, 0xD800, 0xE0041])
def test_invisible_characters_are_written_out(eleven, figures, code):
    html = hostile(eleven, figures, f"left{chr(code)}right")
    assert chr(code) not in html
    assert f'left<span class="unseen">U+{code:04X}</span>right' in html
    html.encode()


def test_markup_in_provenance_and_study_is_escaped(eleven, figures):
    inputs = eleven.report_inputs() | {"provenance": {"<b>key": ["<i>value", {"deep": "<u>\u202e"}]}, "title": "<s>t"}
    html = render_report(**inputs, figures=figures)
    assert not re.search(r"<b>key|<i>value|<u>|<s>|\u202e", html)


def test_each_matrix_cell_links_to_its_pair_and_is_readable(page, eleven):
    tree = read_page(page)
    cells = tree.one("table", id="matrix").all("a")
    assert len(cells) == 55
    js = eleven.logit_js_matrix.js.sel(generators="all")
    for cell in cells:
        first, second = cell["data-pair"].split(" ")
        value = float(js.sel(persona=first, other=second))
        assert f"JS {value:.3f}"[:6] in cell["aria-label"]
        assert first.replace("_", " ") in cell["aria-label"]
        row = tree.one("tr", id=cell["href"][1:]).words
        assert first.replace("_", " ") in row
        assert second.replace("_", " ") in row
        assert len(cell["data-by-question"].split()) == 20
        assert contrast(*re.findall(r"#[0-9a-f]{6}", cell["style"])) >= 4.5


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2)."""

    def luminance(colour: str) -> float:
        channels = np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_minified_figures_keep_every_element(figures):
    for svg in figures.values():
        small = minify_svg(svg)
        assert len(small) < 0.93 * len(svg)
        for tag in (b"<use", b"<path", b"<g"):
            assert small.count(tag) == svg.count(tag)
    assert minify_svg(
        b'<svg width="1pt"><path d="M 1.23456 -0.00001\nL 10.5 2.999" transform="scale(0.015625)"/> </svg>'
    ) == (b'<svg width="1pt"><path d="M 1.23 -0 L 10.5 3" transform="scale(0.015625)"/></svg>')


def test_links_to_runs_and_texts_are_on_the_page(eleven, figures):
    run = Link("1a2b3c4d", "http://127.0.0.1:3000/runs/1a2b3c4d?a=1&b=2")
    html = render_report(**eleven.report_inputs() | {"provenance": {"logit_js": {"runs": [run, run]}}}, figures=figures)
    assert html.count('<a href="http://127.0.0.1:3000/runs/1a2b3c4d?a=1&amp;b=2" rel="noopener">') == 2
    targets, anchors = set(re.findall(r'href="#([^"]+)"', html)), set(re.findall(r'id="([^"]+)"', html))
    assert targets
    assert targets <= anchors


def test_a_link_without_http_is_rejected():
    with pytest.raises(ValueError, match="found 'javascript:alert"):
        Link("run", "javascript:alert(1)")


def test_the_page_loads_nothing_and_its_policy_allows_only_its_script(page):
    tree = read_page(page)
    assert_harmless(tree)
    assert "url(" not in tree.one("style").text
    assert "@import" not in tree.one("style").text
    assert not re.search(r"fetch|XMLHttp|import\(|innerHTML|outerHTML|insertAdjacentHTML|eval|document\.write", SCRIPT)
    (policy,) = [meta["content"] for meta in tree.all("meta") if "http-equiv" in meta.attributes]
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'",
        f"script-src 'sha256-{script}'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_headings_are_in_order_and_the_page_has_landmarks(leaky_page):
    tree = read_page(leaky_page)
    levels = [int(element.tag[1]) for element in tree.all() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    body = tree.one("body")
    landmarks = [part.tag for part in body.inside if isinstance(part, Element)]
    assert landmarks == ["header", "nav", "main", "footer", "script"]


def test_every_internal_link_has_a_target(leaky_page):
    tree = read_page(leaky_page)
    ids = [element["id"] for element in tree.all() if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    targets = {link["href"][1:] for link in tree.all("a") if link["href"].startswith("#")}
    assert {"leakage", "texts", "made", "said-by-villain", "pair-comedian--villain"} <= targets
    assert targets <= set(ids)


def test_the_page_is_small(page):
    assert len(page.encode()) < 5_000_000


def test_every_pair_and_every_response_is_on_the_page(page, eleven):
    tree = read_page(page)
    assert len(tree.one(data_rows="pairs").all("th", scope="row")) == 55
    assert len(tree.one("section", id="responses").all("details")) == 11
    said = [response.text for response in tree.one("section", id="responses").all(class_="response")]
    assert said == list(eleven.generations.text)
    numbers = headline(eleven.logit_js_matrix, eleven.centroid_cosine)
    extreme = [*numbers["most_divergent"], *numbers["most_similar"]]
    beside = [response.text for response in tree.one("section", id="texts").all(class_="response")]
    assert sorted(beside) == sorted(eleven.generations[eleven.generations.persona.isin(extreme)].text)
    assert page.count("cut off at the limit") >= (eleven.generations.finish_reason == "length").sum()


def test_every_figure_is_embedded_with_alt_text_and_caption(page, figures):
    images = read_page(page).all("img")
    assert len(images) == len(figures) >= 4
    assert all(len(image["alt"].split()) > 5 for image in images)
    assert "most divergent: " in images[0]["alt"]
    assert "over the responses of every generator to 20 questions" in " ".join(page.split())
    assert "centring population “study”" in page
    assert "95% intervals, bootstrap over questions, 1000 resamples" in page


def test_provenance_is_on_the_page(page):
    for fact in ("a09a35458c702b33eeacc393d103063234e8bc28", "NVIDIA H100 80GB HBM3", "184.2", "max new tokens"):
        assert fact in page


def test_a_page_with_few_personas_and_no_responses(few):
    figures = as_svg(standard_figures(few.logit_js_matrix, few.centroid_cosine, few.pair_table))
    inputs = few.report_inputs() | {"generations": few.generations.iloc[:0], "study": {}, "checkpoint": {}}
    assert "made without responses" in render_report(**inputs, figures=figures)


def test_with_many_personas_cells_are_small_and_the_pair_table_scrolls(eleven):
    many = Synthetic(42)
    drawn = (
        map_of_personas(many.logit_js_matrix).get_size_inches()
        / map_of_personas(eleven.logit_js_matrix).get_size_inches()
    )
    assert drawn[0] == pytest.approx((42 / 30) ** 0.5)
    for study, large in ((many, True), (eleven, False)):
        page = render_report(**study.report_inputs(), figures={})
        assert ('<div class="matrix-and-reader many">' in page) is large
        assert ('<div class="scroll tall"' in page) is large


def leakage_of(page: str) -> str:
    return page[page.index("<h2>Leakage</h2>") : page.index("<h2>Two personas side by side</h2>")]


@pytest.fixture(scope="module")
def leaky_page(eleven, leaky_figures):
    return render_report(**eleven.leaky_report_inputs(), figures=leaky_figures, marker="[zlt]")


def test_without_leakage_the_page_does_not_mention_it(page):
    assert "leak" not in page.lower()
    assert "marker" not in page.lower()


def test_every_dyad_and_every_source_is_on_the_page(leaky_page, eleven, leaky_figures):
    section = leakage_of(leaky_page)
    table = read_page(leaky_page).one(data_rows="dyads")
    assert len(table.all("th", scope="row")) == 50
    for row in eleven.leakage_table.itertuples():
        assert f"<td>{row.found}/{row.total}</td>" in section
        assert f"<td>{row.source_found}/{row.source_total}</td>" in section
    assert '<p class="number">0/220 <span class="unit">replies</span></p>' in section
    of_leakage = [name for name in leaky_figures if name in LEAKAGE_FIGURES]
    assert section.count('src="data:image/svg+xml;base64,') == len(of_leakage) >= 2
    assert leaky_page.count('src="data:image/svg+xml;base64,') == len(leaky_figures) >= 6
    assert "predict where a trained-in marker leaks?" in leaky_page


def test_spearman_of_leakage_is_shown_with_its_limits(leaky_page, eleven):
    section = " ".join(leakage_of(leaky_page).split())
    rho = leakage_headline(eleven.leaky_pair_table, eleven.leakage_table)["spearman"]["js"][0]
    assert f"<td>{rho:.2f}</td><td>50</td>".replace("-", "−") in section
    assert "Dyads share sources and targets, and all come from one model" in section
    assert "no p value is given" in section


def test_two_replies_with_the_marker_and_two_without_for_every_source(leaky_page, eleven):
    section = leakage_of(leaky_page)
    assert section.count("<mark>[ZLT]</mark>") == section.count("[ZLT]") == 2 * 5
    assert section.count('<div class="response">') == 4 * 5
    assert section.count("(itself)") >= 2 * 5


def test_replies_of_trained_models_are_escaped(eleven, leaky_figures):
    hostile = pd.Series(["<script>alert(1)</script>\u202e[ZLT]\ud800"] * len(eleven.samples), dtype=object)
    samples = eleven.samples.assign(text=hostile)
    html = render_report(**(eleven.leaky_report_inputs() | {"samples": samples}), figures=leaky_figures)
    assert_harmless(read_page(html))
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html
    html.encode()


def test_zero_leakage_without_a_base_rate_is_stated(eleven, leaky_figures):
    zero = {"leakage_found": 0, "leakage_rate": 0.0, "leakage_low": 0.0}
    pairs = eleven.leaky_pair_table.copy()
    pairs.loc[pairs.leakage_rate.notna(), list(zero)] = list(zero.values())
    table = eleven.leakage_table.assign(found=0, rate=0.0, base_found=np.nan, base_total=np.nan, base_rate=np.nan)
    inputs = eleven.leaky_report_inputs() | {"pair_table": pairs, "leakage_table": table, "samples": None}
    section = " ".join(leakage_of(render_report(**inputs, figures=leaky_figures)).split())
    assert section.count("<td>undefined</td><td>50</td>") == 5
    assert "ρ is undefined if all rates are equal" in section
    assert "The base rate was not measured" in section
    assert "The replies themselves are not available" in section


def test_a_page_with_three_personas_and_one_source(three_with_one_source):
    study = three_with_one_source
    tables = (study.logit_js_matrix, study.centroid_cosine, study.leaky_pair_table)
    figures = as_svg(standard_figures(*tables, leakage_table=study.leakage_table))
    assert leakage_of(render_report(**study.leaky_report_inputs(), figures=figures)).count(" → <bdi>") == 2


def test_leakage_captions_define_the_rate_and_name_the_recipe(eleven):
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


def test_leakage_headline_skips_missing_values(eleven):
    pairs = eleven.leaky_pair_table.convert_dtypes()
    measured = pairs.index[pairs.leakage_rate.notna()]
    pairs.loc[measured[:3], "cosine_study_layer7"] = pd.NA
    table = eleven.leakage_table.drop(columns=["base_found", "base_total", "base_rate"])
    numbers = leakage_headline(pairs, table)
    assert numbers["base"] is None
    assert numbers["spearman"]["cosine_study_layer7"][1] == 47
    assert numbers["spearman"]["js"][1] == 50


def test_two_counts_of_one_source_are_rejected(eleven):
    table = eleven.leakage_table.copy()
    table.loc[0, "source_found"] += 1
    with pytest.raises(ValueError, match=r"leakage_table: source assistant: .* expected one count per source"):
        leakage_headline(eleven.leaky_pair_table, table)


def test_leakage_scatter_comes_before_the_heatmap(leaky_page):
    titles = re.findall(r'alt="([^"]*)"', leaky_page)
    said = [title for title in titles if title]
    assert said.index(next(t for t in said if "leakage against" in t.lower())) < said.index(
        next(t for t in said if "leakage heatmap" in t.lower())
    )
