"""Functions that read code blocks and tables from a page."""

import doctest
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced code block: its language, its text, the first line of its text, and the heading above it."""

    language: str
    text: str
    line: int
    heading: str


def blocks(page: Path, language: str) -> list[Block]:
    """Return the page's fenced blocks in one language, in order."""
    found, heading, tokens = [], "", MarkdownIt().parse(page.read_text(encoding="utf-8"))
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[place + 1].content
        if token.type == "fence" and token.info.strip() == language:
            assert token.map is not None
            found.append(Block(language, token.content, token.map[0] + 2, heading))
    return found


def run_blocks(page: Path, namespace: dict[str, Any]) -> dict[str, Any]:
    """Execute the page's Python blocks in order, those with `>>>` as doctests, and return the namespace."""
    runner = doctest.DocTestRunner(optionflags=_FLAGS)
    report: list[str] = []
    for block in blocks(page, "python"):
        if ">>>" not in block.text:
            # Pad with empty lines, so that a traceback shows the line of the page.
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
            continue
        test = doctest.DocTestParser().get_doctest(block.text, namespace, page.name, str(page), block.line - 1)
        runner.run(test, out=report.append, clear_globs=False)
        namespace.update(test.globs)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
    return namespace


def tables(page: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield the heading above each table of the page, and the table's rows by column."""
    heading, tokens = "", MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8"))
    rows: list[list[str]] = []
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[place + 1].content
        elif token.type == "table_open":
            rows = []
        elif token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and tokens[place - 1].type in ("th_open", "td_open"):
            rows[-1].append(token.content)
        elif token.type == "table_close":
            yield heading, [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]


def in_backticks(text: str) -> list[str]:
    """Return the texts between single backticks outside fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
