"""The report in a real browser: its script, its content security policy and its accessibility."""

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pandas as pd
import pytest

from persona_assets.presentation import js_heatmap, render_report, to_svg
from tests.presentation.by_hand import PRIMARY, statements_by_hand, verdict_by_hand
from tests.presentation.conftest import Synthetic
from tests.presentation.report.test_hostile_report import hostile_inputs

pytest.importorskip("playwright", reason="Playwright is not installed")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
A4 = (595, 842)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


def inputs_of(study: Synthetic) -> dict[str, Any]:
    """Return inputs of a report with leakage, statements, tokens in every colour and a figure."""
    rows = [
        (persona, other, question, f" word{place}", place / 12)
        for persona in study.names
        for other in study.names
        for question in study.generations.question.unique()
        for place in range(9)
        if persona != other
    ]
    tokens = pd.DataFrame(rows, columns=["persona", "other", "question", "piece", "js"])
    return study.leaky_report_inputs() | {
        "figures": {"js_heatmap": to_svg(js_heatmap(study.logit_js_matrix))},
        "tokens": tokens,
        "marker": "[ZLT]",
        "statements": statements_by_hand(),
        "verdict": verdict_by_hand(),
        "primary_cosine": PRIMARY,
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write the report of five personas and return its URL."""
    study = Synthetic(5, questions=2)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(**inputs_of(study)))
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Watched:
    """A page with its recorded requests, console messages, errors and dialogs."""

    def __init__(self, browser: Browser, address: str, **context: Any):
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page = browser.new_context(viewport=DESKTOP, **context).new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.set_default_timeout(5000)
        self.page.goto(address)


@pytest.fixture(scope="module")
def watched(chromium: Browser, report: str) -> Watched:
    return Watched(chromium, report)


@pytest.fixture
def page(watched: Watched) -> Page:
    watched.page.set_viewport_size(DESKTOP)
    watched.page.reload()
    return watched.page


def test_the_page_sends_no_requests_and_keeps_to_its_policy(watched: Watched, report: str) -> None:
    watched.page.locator("#matrix a").first.hover()
    assert {address for address in watched.asked if not address.startswith("data:image/svg+xml")} == {report}
    assert watched.said == []


def test_the_policy_blocks_an_injected_script_and_request(page: Page) -> None:
    page.evaluate("""() => {
        document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.taken = 1'}));
        document.body.insertAdjacentHTML('beforeend', '<img src="x" onerror="window.taken = 2">');
    }""")
    assert page.evaluate("window.taken") is None
    refused = "fetch('https://example.org/').then(() => 'sent', () => 'refused')"
    assert page.evaluate(refused) == "refused"


def test_a_cell_shows_the_responses_of_its_two_personas(page: Page) -> None:
    cell = page.locator('#matrix a[data-pair="software_engineer villain"]')
    cell.hover()
    assert page.locator("#reader-pair").inner_text().startswith("software engineer – villain: JS 0.")
    assert page.locator("#reader .label").all_inner_texts() == ["software engineer", "villain"]
    first, second = page.locator("#reader .response").all_inner_texts()
    assert first.startswith("As a software engineer,")
    assert second.startswith("As a villain,")
    assert page.locator("#reader mark").all_inner_texts() == [" software", " villain,"]


def test_a_clicked_cell_is_pinned_and_arrow_keys_move_on(page: Page) -> None:
    cells = page.locator("#matrix a")
    cells.first.click()
    kept = page.locator("#reader-pair").inner_text()
    assert kept.endswith("pinned")
    cells.last.hover()
    assert page.locator("#reader-pair").inner_text() == kept
    page.keyboard.press("ArrowDown")
    below = page.locator("#reader-pair").inner_text()
    assert below != kept
    assert not below.endswith("pinned")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('td').cellIndex") == 2
    assert page.locator("#matrix a[tabindex='0']").count() == 1


def test_the_selected_question_stays_selected(page: Page) -> None:
    page.locator("#reader select").select_option("1")
    page.locator("#matrix a").last.hover()
    assert page.locator("#reader select").input_value() == "1"
    assert re.match(r"\d+(\.\d)? · ", page.locator("#reader option").first.inner_text())


def test_a_table_is_filtered_and_sorted(page: Page) -> None:
    pairs = page.locator("#pairs")
    rows = pairs.locator("tbody tr:visible")
    assert rows.count() == 10
    pairs.locator("input").fill("villain teacher")
    assert pairs.locator("[role=status]").inner_text() == "1 of 10"
    assert rows.all_inner_texts()[0].startswith(("villain – kindergarten", "kindergarten teacher – villain"))
    pairs.locator("input").fill("")
    js = page.get_by_role("button", name="JS", exact=True)
    header = pairs.locator("th").filter(has=js)
    orders = []
    for direction in ("ascending", "descending", None):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == direction
        orders.append([float(text) for text in rows.locator("td.bar").all_inner_texts()])
    assert orders[0] == sorted(orders[0]) == orders[1][::-1] == orders[2][::-1]


def test_statements_stay_with_their_family_when_sorted_and_filtered(page: Page) -> None:
    table = page.locator("#statements table[data-rows]").first
    table.get_by_role("button", name="estimate").click()
    headings = table.locator("tbody th").all_inner_texts()
    assert headings.index("Leakage and each predictor") < headings.index("spearman: JS")
    assert headings.index("spearman: JS") < headings.index("Which predictor is more closely associated with leakage")


def test_a_link_expands_its_target(page: Page) -> None:
    page.locator("#distance a[href='#said-by-villain']").first.click()
    assert page.locator("#said-by-villain").get_attribute("open") is not None


def test_without_the_script_all_content_is_there(chromium: Browser, report: str) -> None:
    plain = Watched(chromium, report, java_script_enabled=False).page
    assert not plain.locator("#reader").is_visible()
    assert not plain.locator(".scripted").is_visible()
    assert plain.locator("button, input").count() == 0
    plain.locator("#matrix a").first.click()
    assert re.search(r"#pair-[a-z_]+--[a-z_]+$", plain.url)
    plain.locator("#said-by-villain summary").click()
    assert plain.locator("#said-by-villain .response").first.is_visible()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"])
def test_axe_finds_no_violations(page: Page, size: Any, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(size)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": tags})
    page.emulate_media(color_scheme="light")
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 25
    (contrast,) = [rule for rule in found.response["passes"] if rule["id"] == "color-contrast"]
    unsure = [rule for rule in found.response["incomplete"] if rule["id"] == "color-contrast"]
    assert len(contrast["nodes"]) > 3 * sum(len(rule["nodes"]) for rule in unsure)


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Page) -> None:
    page.set_viewport_size(PHONE)
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert page.locator("#matrix a").first.bounding_box()["height"] >= 24  # WCAG 2.2: minimum target size


def test_it_prints_on_a4_in_dark_ink(chromium: Browser, report: str) -> None:
    page = Watched(chromium, report, color_scheme="dark").page
    pdf = page.pdf(prefer_css_page_size=True)
    boxes = {
        tuple(round(float(side)) for side in box) for box in re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", pdf)
    }
    assert boxes == {A4}
    page.emulate_media(media="print")
    ink, paper = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] })()"
    )
    assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    assert not page.locator("nav").is_visible()


def test_attacks_have_no_effect_in_a_browser(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render_report(**hostile_inputs(Synthetic(3, questions=4)), figures={}))
    found = Watched(chromium, path.as_uri())
    for cell in found.page.locator("#matrix a").all():
        cell.hover()
    found.page.locator("#pairs a").first.click()
    assert found.page.evaluate("window.taken") is None
    assert found.said == []
    assert found.asked == [path.as_uri()]
