"""Text that a model wrote, made safe to read: what cannot be seen is shown."""

import re

from markupsafe import Markup, escape

# Characters that reorder, hide or break what surrounds them: controls (but not tab and line feed), the soft hyphen,
# bidirectional marks, embeddings, overrides and isolates, zero-width spaces, line and paragraph separators, interlinear
# and tag characters, lone surrogates. The joiners U+200C and U+200D stay: scripts and emoji need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
# What Markdown, or GitHub's reading of it, could take as its own.
_MARKDOWN = re.compile(r"([\\`*_\[\]#|<>~&@$]|:(?=//)|(?<=www)\.)", re.IGNORECASE)


def visible(text: object) -> Markup:
    """HTML for untrusted text: escaped, unseen characters written as U+XXXX, isolated from the text around it."""
    return isolated(seen(str(text).replace("\r\n", "\n")))


def isolated(html: Markup) -> Markup:
    """HTML whose direction of writing does not reach the text around it."""
    return Markup("<bdi>{}</bdi>").format(html)


def seen(text: str) -> Markup:
    """A part of an untrusted text as HTML: escaped, unseen characters written as U+XXXX."""
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
    """`visible`, with every occurrence of the marker, whatever its case, marked; an empty marker marks nothing."""
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
    """Untrusted text as text: unseen characters written as U+XXXX."""
    return _UNSEEN.sub(lambda match: f"U+{ord(match[0]):04X}", str(text).replace("\r\n", "\n"))


def markdown(text: object) -> str:
    """Untrusted text as one line of Markdown that says what it says: nothing in it is markup, mention or address."""
    return _MARKDOWN.sub(r"\\\1", " ".join(plain(text).split()))


def fenced(text: object) -> str:
    """Untrusted text as a block of Markdown that is taken as it stands, whatever fences it has itself."""
    shown = plain(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{shown}\n{fence}"
