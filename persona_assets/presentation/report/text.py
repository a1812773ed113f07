"""Rendering of untrusted text as HTML, Markdown or plain text, with invisible characters written out."""

import re

from markupsafe import Markup, escape

# Characters that reorder, hide or break the text around them: controls (except tab and line feed), the soft hyphen,
# bidirectional marks, embeddings, overrides and isolates, zero-width spaces, line and paragraph separators, interlinear
# and tag characters, lone surrogates. The joiners U+200C and U+200D are kept because scripts and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# Characters that Markdown or GitHub could interpret as syntax, mentions or links.
_MARKDOWN = re.compile(r"([\\`*_\[\]#|<>~&@$]|:(?=//)|(?<=www)\.)", re.IGNORECASE)


def visible(text: object) -> Markup:
    """Return untrusted text as HTML: escaped, invisible characters as U+XXXX, isolated from the surrounding text."""
    return isolated(seen(str(text).replace("\r\n", "\n")))


def isolated(html: Markup) -> Markup:
    """Wrap HTML so that its writing direction does not affect the surrounding text."""
    return Markup("<bdi>{}</bdi>").format(html)


def seen(text: str) -> Markup:
    """Return a part of an untrusted text as HTML: escaped, invisible characters as U+XXXX."""
    pieces: list[Markup] = []
    end = 0
    for match in _UNSEEN.finditer(text):
        pieces += [
            escape(text[end : match.start()]),
            Markup('<span class="unseen">U+{:04X}</span>').format(ord(match[0])),
        ]
        end = match.end()
    return Markup("").join([*pieces, escape(text[end:])])


def marked(text: object, marker: str) -> Markup:
    """Return `visible` HTML with the marker in `<mark>`, ignoring case; an empty marker marks nothing."""
    shown = str(text).replace("\r\n", "\n")
    if not marker:
        return isolated(seen(shown))
    parts = re.split(f"({re.escape(marker)})", shown, flags=re.IGNORECASE)
    return isolated(
        Markup("").join(
            Markup("<mark>{}</mark>").format(seen(part)) if place % 2 else seen(part)
            for place, part in enumerate(parts)
        )
    )


def plain(text: object) -> str:
    """Return untrusted text with invisible characters written as U+XXXX."""
    return _UNSEEN.sub(lambda match: f"U+{ord(match[0]):04X}", str(text).replace("\r\n", "\n"))


def markdown(text: object) -> str:
    """Return untrusted text as one line of Markdown, escaped so that it has no markup, mention or link."""
    return _MARKDOWN.sub(r"\\\1", " ".join(plain(text).split()))


def fenced(text: object) -> str:
    """Return untrusted text as a fenced Markdown code block; the fence is longer than any in the text."""
    shown = plain(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"
