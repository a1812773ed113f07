"""Sphinx configuration for `make docs`, which builds the site in build/docs and fails on a broken link.

The source folder is the root of the repository, so that the relative links between README, docs and benchmarks work
in a checkout, on a code host and on the site.
"""

import html
from pathlib import Path

from docutils import nodes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "persona_assets"
copyright = "the persona_assets authors, Apache-2.0"
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/**.md",
    "benchmarks/results/*.md",
]
exclude_patterns = [".*", ".*/**", "build", "dagster_home", "persona_assets*", "tests", "scripts", "examples"]

extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
html_math_renderer = "outlines"

html_theme = "furo"
html_title = "persona_assets"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["docs.css"]
html_css_files = ["docs.css"]

# Sizes are in em, so that formulas scale with the surrounding text.
_EM = 100.0


def outlined(tex: str) -> str:
    """Return a formula as inline SVG, drawn by Matplotlib: needs no script, no font and no network request."""
    path = TextPath((0, 0), f"${' '.join(tex.split())}$", size=_EM, prop=FontProperties(math_fontfamily="stix"))
    box = path.get_extents()
    width, height = box.width / _EM, box.height / _EM
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    shape = "".join(
        letters[int(code)] + " ".join(f"{x:.0f},{-y:.0f}" for x, y in points.reshape(-1, 2) if code != 79)
        for points, code in path.iter_segments(curves=True, simplify=False)
    )
    frame = f"{box.x0:.1f} {-box.y1:.1f} {box.width:.1f} {box.height:.1f}"
    return (
        f'<svg class="formula" role="img" aria-label="{html.escape(tex)}" viewBox="{frame}" '
        f'style="width:{width:.3f}em;height:{height:.3f}em;vertical-align:{box.y0 / _EM:.3f}em">'
        f'<path d="{shape}" fill="currentColor"/></svg>'
    )


def inline_math(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula within a line of text."""
    translator.body.append(outlined(node.astext()))
    raise nodes.SkipNode


def display_math(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed formula; `\\\\` separates its lines."""
    lines = (f"<div>{outlined(line.strip())}</div>" for line in node.astext().split(r"\\") if line.strip())
    translator.body.append(f'<div class="formulas">{"".join(lines)}</div>\n')
    raise nodes.SkipNode


def give_title(app: Sphinx, page: str, source: list[str]) -> None:
    """Add a heading to the benchmark results that have none."""
    if page.startswith("benchmarks/") and not source[0].startswith("# "):
        source[0] = f"# {Path(page).name.replace('_', ' ')}\n\n{source[0]}"


def send_to_index(app: Sphinx, failure: Exception | None) -> None:
    """Redirect the site's root to the index page, which is in docs/ as its source is."""
    if failure is None and app.builder.name == "html":
        page = f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("outlines", (inline_math, None), (display_math, None))
    app.connect("source-read", give_title)
    app.connect("build-finished", send_to_index)
