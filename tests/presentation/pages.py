"""HTML pages parsed into elements with attributes and text, by the standard library's parser."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from persona_assets import presentation

SCRIPT = (Path(presentation.__file__).parent / "report" / "templates" / "report.js").read_text()
VOID = {"meta", "img", "input", "br", "hr", "link", "base", "source"}


class Element:
    """An element: its tag, attributes and content (elements and texts)."""

    def __init__(self, tag: str, attributes: dict[str, str]):
        self.tag, self.attributes = tag, attributes
        self.inside: list[Element | str] = []

    def __getitem__(self, attribute: str) -> str:
        return self.attributes[attribute]

    @property
    def text(self) -> str:
        return "".join(part if isinstance(part, str) else part.text for part in self.inside)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def all(self, tag: str = "", **attributes: str) -> list["Element"]:
        """Return the descendants with a tag and attributes; `class_="x"` matches one of the element's classes."""
        return [each for each in self._below() if tag in ("", each.tag) and each._has(attributes)]

    def one(self, tag: str = "", **attributes: str) -> "Element":
        (found,) = self.all(tag, **attributes)
        return found

    def rows(self) -> list[list[str]]:
        """Return the cell texts of every row of a table."""
        return [[cell.words for cell in row.inside if isinstance(cell, Element)] for row in self.all("tr")]

    def _has(self, attributes: dict[str, str]) -> bool:
        classes = self.attributes.get("class", "").split()
        return all(
            value in classes if name == "class_" else self.attributes.get(name.replace("_", "-")) == value
            for name, value in attributes.items()
        )

    def _below(self) -> Iterator["Element"]:
        for part in self.inside:
            if isinstance(part, Element):
                yield part
                yield from part._below()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def read_page(html: str) -> Element:
    """Parse a page; fail if its elements are not properly nested and closed."""
    reader = _Reader()
    reader.feed(html)
    assert reader.open == [reader.root], f"<{reader.open[-1].tag}> is never closed"
    return reader.root


def assert_harmless(page: Element) -> None:
    """Check that the page has only its own script and nothing else that runs, loads or sends."""
    assert [script.text for script in page.all("script")] == [SCRIPT]
    for element in page.all():
        assert element.tag not in {"link", "iframe", "object", "embed", "form", "base", "frame", "svg"}
        for name, value in element.attributes.items():
            assert not name.startswith("on"), f"<{element.tag} {name}>"
            if name in {"src", "srcset", "poster", "data", "action", "formaction", "background"}:
                assert value.startswith("data:image/svg+xml;base64,")
            if name == "href":
                assert re.match(r"#|https?://", value)
            if name == "style":
                assert "url(" not in value
