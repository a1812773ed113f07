"""Tests of the site that `make docs` builds: a broken link, or a page without a link to it, fails the build."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt


def build(root: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-d", str(to / "doctrees")]
    return subprocess.run(
        [*command, "-c", str(root / "docs"), str(root), str(to / "site")], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("docs")
    done = build(repository, to)
    assert done.returncode == 0, done.stderr
    return to / "site"


def test_every_page_is_there_and_the_front_door_leads_to_them(repository: Path, site: Path) -> None:
    pages = {page.stem for page in (repository / "docs").rglob("*.md")}
    assert pages <= {page.stem for page in (site / "docs").rglob("*.html")}
    assert (site / "README.html").is_file()
    assert "docs/index.html" in (site / "index.html").read_text()


def test_no_request_leaves_the_site(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)\"", page.read_text())
        assert not [address for address in loaded if address.startswith(("http:", "https:", "//"))], page.name


def test_formulas_are_drawn(site: Path) -> None:
    text = (site / "docs" / "explanation" / "method.html").read_text()
    assert text.count('class="formula"') > 30
    assert "$$" not in text


def test_a_broken_link_fails_the_build(repository: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("conf.py", "docs.css"):
        shutil.copy(repository / "docs" / name, docs)
    links = ("[page](missing.md)", "[heading](other.md#nowhere)", "[file](../missing.py)", "![picture](missing.png)")
    toctree = "```{toctree}\nother\n```"
    (docs / "index.md").write_text("\n\n".join(["# Index", *links, toctree, ""]))
    (docs / "other.md").write_text("# Other\n")
    (docs / "stray.md").write_text("# Nothing leads here\n")
    done = build(tmp_path, tmp_path)
    assert done.returncode == 1
    for broken in ("missing.md", "nowhere", "missing.py", "missing.png", "stray.md"):
        assert broken in done.stderr


def test_every_relative_link_and_picture_of_the_repository_is_there(repository: Path) -> None:
    """Also check pages that are not part of the site."""
    for page in [*repository.glob("*.md"), *repository.glob("docs/**/*.md"), *repository.glob("benchmarks/**/*.md")]:
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
            for child in token.children or []:
                link = str(child.attrs.get("href") or child.attrs.get("src") or "").partition("#")[0]
                if link and not re.match(r"[a-z]+:", link):
                    assert (page.parent / link).exists(), (page.name, link)
