"""What a person does: Dagster's page and the report in a real browser, over the small study that was measured.

Screenshots are kept in the folder that PERSONA_ASSETS_SCREENSHOTS names, or in pytest's own.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import dagster as dg
import pytest

from persona_assets.definitions import build_definitions
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.runs.run import Run
from persona_assets.study import Study
from tests.end_to_end.conftest import CHECKPOINT
from tests.end_to_end.served import OVER, Page, serve, wait_until

pytest.importorskip("playwright", reason="the page is looked at in a browser where Playwright is installed")
from playwright.sync_api import Browser, Locator, expect, sync_playwright
from playwright.sync_api import Page as Tab

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
SCREEN = {"width": 1440, "height": 900}
GROUPS = (
    "1_study", "2_checkpoint", "3_responses", "4_divergence", "5_geometry", "6_leakage", "7_statistics", "8_drift",
    "9_presentation",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the page with")


@pytest.fixture(scope="module")
def page(small_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page over a copy of the measured instance, in which a check failed."""
    folder = tmp_path_factory.mktemp("page")
    home = Home(shutil.copytree(small_run.home.root, folder / "home"))
    ask_one_question_more(small_run.study, home)
    with serve(home, small_run.study, folder) as page:
        yield page


def ask_one_question_more(study: Study, home: Home) -> None:
    """Has the check of the answers evaluated by a study that asks more than was answered."""
    asked = study.model_copy(update={"questions": (*study.questions, "Why is the sky blue?")})
    check = dg.AssetCheckKey(dg.AssetKey("generations"), "every_question_is_answered")
    job = build_definitions(asked, home).resolve_implicit_global_asset_job_def()
    only = job.get_subset(asset_selection=set(), asset_check_selection={check})
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        assert only.execute_in_process(instance=instance).success


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Tab:
    """One tab of a screen of 1440 × 900, as a laptop has."""
    tab = browser.new_page(viewport=SCREEN)
    tab.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    return tab


@pytest.fixture(scope="module")
def keep(tab: Tab, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], None]:
    """Keeps a screenshot under a name."""
    folder = Path(os.environ.get("PERSONA_ASSETS_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def screenshot(name: str) -> None:
        tab.screenshot(path=folder / f"{name}.png")

    return screenshot


@pytest.fixture
def front(page: Page, tab: Tab) -> Tab:
    """The front page."""
    tab.goto(f"{page.address}/")
    return tab


def asset_link(tab: Tab, asset: str) -> Locator:
    """An asset's name in the catalog. The page writes it twice, once to measure its width."""
    return tab.locator(f"a[href$='/assets/{asset}']")


def on_screen(thing: Locator) -> dict[str, float]:
    """Where something is, after making sure that all of it is on the screen."""
    box = thing.bounding_box()
    assert box is not None
    assert 0 <= box["x"] <= SCREEN["width"] - box["width"], thing
    assert 0 <= box["y"] <= SCREEN["height"] - box["height"], thing
    return dict(box)


def test_three_clicks_lead_to_what_the_villain_said_to_a_question(front, keep, small_run):
    front.get_by_role("link", name="Catalog").click()
    asset_link(front, "generations").click()
    front.get_by_role("link", name="villain", exact=True).click()

    question = front.get_by_role("cell", name=f"2. {small_run.study.questions[1]}", exact=True)
    key = f"{CHECKPOINT}|villain"
    said = latest_artefacts(small_run.instance, small_run.home.store, "generations", [key])[key].read().text[1]
    expect(question.locator("xpath=following-sibling::td")).to_have_text(" ".join(said.split()))
    keep("villain")


def test_two_clicks_lead_to_the_js_of_villain_and_comedian(front, keep, small_run):
    front.get_by_role("link", name="Catalog").click()
    asset_link(front, "logit_js_matrix").click()

    pair = front.get_by_role("cell", name="villain – comedian", exact=True)
    matrix = latest_artefacts(small_run.instance, small_run.home.store, "logit_js_matrix", [CHECKPOINT])[CHECKPOINT]
    js = float(matrix.read().js.sel(generators="all", persona="villain", other="comedian"))
    expect(pair.locator("xpath=preceding-sibling::td")).to_have_text(f"{js:.4f}")
    keep("js")


def test_two_clicks_lead_to_the_verdict(front, keep, small_run):
    front.get_by_role("link", name="Catalog").click()
    asset_link(front, "report").click()

    statistics = small_run.instance.get_latest_materialization_event(dg.AssetKey("partial_correlations"))
    verdict = statistics.asset_materialization.metadata["verdict"].value
    assert "JS" in verdict
    assert "cosine" in verdict
    row = front.locator("tr", has=front.get_by_role("cell", name="verdict", exact=True))
    expect(row).to_contain_text(verdict)
    keep("verdict")


def test_the_lineage_fits_one_screen_and_reads_from_left_to_right(front, keep, page):
    front.locator("a[href$='/asset-groups']").click()
    graph = front.locator("svg foreignObject")
    boxes = {group: on_screen(graph.get_by_text(group, exact=True).first) for group in GROUPS}
    flow = ("1_study", "3_responses", "4_divergence", "7_statistics", "9_presentation")
    assert sorted(flow, key=lambda group: boxes[group]["x"]) == list(flow)
    keep("lineage_groups")

    front.keyboard.press("Alt+E")  # expands every group
    for asset in ("persona_prompts", "generations", "logit_js", "centroid_cosine", "leakage_table", "report"):
        on_screen(graph.get_by_text(asset, exact=True).first)
    keep("lineage")


def test_an_asset_is_materialised_from_the_page_and_its_picture_is_seen(front, keep, page):
    before = page.latest_run()["runId"]
    front.goto(f"{page.address}/assets/logit_js_matrix")
    front.get_by_role("button", name="Materialize").first.click()
    dialog = front.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    dialog.get_by_role("button", name="Launch 1 run").click()
    wait_until(lambda: page.latest_run()["runId"] != before, 20, "a run is launched")
    wait_until(lambda: page.latest_run()["status"] in OVER, 90, "the run is over")
    assert page.latest_run()["status"] == "SUCCESS"

    front.goto(f"{page.address}/assets/logit_js_matrix")
    row = front.get_by_role("row", name="heatmap")
    row.get_by_text("Show Markdown").click()
    picture = front.get_by_role("dialog").get_by_role("img", name="JS between personas")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 300
    front.wait_for_timeout(300)  # the dialog fades in
    keep("picture")


def test_a_check_that_failed_says_why(front, keep, page):
    front.goto(f"{page.address}/assets/generations")
    front.get_by_role("tab", name="Checks").or_(front.get_by_role("link", name="Checks")).first.click()
    front.get_by_text("every_question_is_answered").first.click()
    expect(front.get_by_text("0 of 3 personas answer 3 questions").first).to_be_visible()
    expect(front.get_by_text("Failed").first).to_be_visible()
    keep("failed_check")


def test_the_report_of_the_run_is_read_filtered_and_printed(tab, keep, small_run, tmp_path):
    report = latest_artefacts(small_run.instance, small_run.home.store, "report", [CHECKPOINT])[CHECKPOINT]
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto((report.path / "report.html").as_uri())
    cell = tab.locator("#matrix a[data-pair~=villain][data-pair~=comedian]")
    cell.hover()
    expect(tab.locator("#reader-pair")).to_contain_text("villain – comedian")
    expect(tab.locator("#reader .response").first).to_be_visible()
    keep("report_matrix")

    field = tab.locator("p.filter").first
    rows = field.locator("xpath=following-sibling::*[1]").locator("tbody tr:not(.gt_group_heading_row)")
    shown, every = rows.filter(visible=True), rows.count()
    field.get_by_label("Filter").fill("spearman")
    expect(field.get_by_role("status")).to_have_text(f"{shown.count()} of {every}")
    assert 0 < shown.count() < every
    field.evaluate("field => field.scrollIntoView()")
    keep("report_filtered")

    printed = tab.pdf(format="A4", print_background=True)
    assert printed.startswith(b"%PDF")
    assert 30_000 < len(printed) < 10_000_000
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
