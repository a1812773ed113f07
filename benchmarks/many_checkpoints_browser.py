"""The instance that `many_checkpoints` filled, in a browser: seconds from a click to the drawn page.

    python -m benchmarks.many_checkpoints --template dagster_home --at FOLDER
    python -m benchmarks.many_checkpoints_browser --at FOLDER --screenshots FOLDER

Uses Debian's Chromium through Playwright. Every page is opened twice, the first time with empty caches in the server
and in the browser.
"""

import argparse
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

from benchmarks.many_checkpoints import PORT, Page
from benchmarks.reporting import table

ADDRESS = f"http://127.0.0.1:{PORT}"
# Pages, and the element that is present once each is drawn.
PAGES = {
    "lineage, by groups": ("/asset-groups", "text=9_presentation"),
    "lineage around `logit_js`": ("/assets/logit_js?view=lineage", "text=logit_js_matrix"),
    "partitions of `logit_js`": ("/assets/logit_js?view=partitions", "text=/111,?000/"),
    "one partition of `report`": ("/assets/report?view=partitions&partition=NEWEST", "text=Metadata"),
    "catalog": ("/assets", "text=logit_js_matrix"),
    "runs": ("/runs", "a[href^='/runs/']"),
}


def seconds(tab: Tab, path: str, drawn: str) -> tuple[float, float]:
    """Return the seconds until the page shows its main content, and until the server's last response."""
    start = time.perf_counter()
    tab.goto(ADDRESS + path)
    tab.locator(drawn).first.wait_for()
    first = time.perf_counter() - start
    tab.wait_for_load_state("networkidle")
    return first, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", type=Path, required=True)
    parser.add_argument("--newest", default="run.checkpoint-1000", help="a checkpoint's name")
    parser.add_argument("--screenshots", type=Path)
    given = parser.parse_args()
    filled = SimpleNamespace(home=given.at / "home", study_file=given.at / "study.yaml")
    rows = []
    with Page(filled), sync_playwright() as playwright:  # type: ignore[arg-type]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.set_default_timeout(60_000)
        for name, (path, drawn) in PAGES.items():
            times = [seconds(tab, path.replace("NEWEST", given.newest), drawn) for _ in range(2)]
            shown = [f"{first:.1f} ({idle:.1f})" for first, idle in times]
            rows.append({"page": name, "first": shown[0], "again": shown[1]})
            print(rows[-1], flush=True)
            if given.screenshots:
                given.screenshots.mkdir(parents=True, exist_ok=True)
                tab.screenshot(path=given.screenshots / f"{'_'.join(name.replace('`', '').split())}.png")
        browser.close()
    print(table(rows))


if __name__ == "__main__":
    main()
