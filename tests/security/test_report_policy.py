"""The report's own policy: it runs the one script that it came with, and loads nothing."""

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from persona_assets.presentation import render_report
from tests.presentation.conftest import Synthetic

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# What runs in a page, in the ways that a text could bring it there if escaping failed.
INTRUDERS = (
    "<script>document.title += ' taken by script'</script>"
    "<img src=x onerror=\"document.title += ' taken by handler'\">"
    "<iframe srcdoc=\"<script>parent.document.title += ' taken by frame'</script>\"></iframe>"
    "<script src=\"data:text/javascript,document.title%20%2B%3D%20'%20taken%20by%20address'\"></script>"
)


class Page(HTMLParser):
    """What of a page could act: policy, scripts, handlers, addresses that run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.policy, self.scripts, self.acting = "", [], []
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("http-equiv", "").lower() == "content-security-policy":
            assert not self.scripts, "the policy stands after a script, which it does not bind"
            self.policy = given["content"] or ""
        if tag == "script":
            self.scripts.append("")
            self._in_script = True
        for name, value in attrs:
            if name.startswith("on") or (value or "").lower().lstrip().startswith("javascript:"):
                self.acting.append(f"{tag} {name}={value}")
        if tag in ("iframe", "object", "embed", "base", "form") or (tag == "script" and "src" in given):
            self.acting.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(**Synthetic(3).report_inputs(), figures={})


def directives(policy: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for part in policy.split(";") if (words := part.split())}


def test_the_policy_allows_the_pages_own_script_and_nothing_else(html: str) -> None:
    page = Page(html)
    allowed: dict[str, Any] = directives(page.policy)
    assert allowed["default-src"] == ["'none'"]
    assert allowed["base-uri"] == allowed["form-action"] == ["'none'"]
    assert allowed["img-src"] == ["data:"]
    digests = [base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in page.scripts]
    assert allowed.get("script-src", []) == [f"'sha256-{digest}'" for digest in digests]
    assert set(allowed) <= {"default-src", "script-src", "img-src", "style-src", "font-src", "base-uri", "form-action"}
    assert not re.search(r"https?:|\*|unsafe-eval", page.policy)
    assert page.acting == []


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_a_browser_runs_no_script_that_gets_into_the_page(html: str, tmp_path: Path) -> None:
    assert CHROMIUM
    titles = []
    for name, content in (("guarded", html), ("open", re.sub(r"<meta http-equiv=.Content-Security[^>]*>", "", html))):
        file = tmp_path / f"{name}.html"
        file.write_text(content.replace("</body>", f"{INTRUDERS}</body>"))
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / name}"]
        done = subprocess.run(
            [CHROMIUM, *options, "--dump-dom", "--virtual-time-budget=2000", file.as_uri()],
            capture_output=True,
            text=True,
        )
        titles.append(re.findall("taken by (script|handler|frame|address)", done.stdout.partition("</title>")[0]))
    guarded, unguarded = titles
    assert guarded == []
    assert sorted(unguarded) == ["address", "frame", "handler", "script"]  # each of them works where there is no policy
