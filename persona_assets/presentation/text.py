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


def visible(text: object) -> Markup:
    """HTML for untrusted text: escaped, unseen characters written as U+XXXX, isolated from the text around it."""
    lines = str(text).replace("\r\n", "\n")
    pieces: list[Markup] = []
    end = 0
    for match in _UNSEEN.finditer(lines):
        pieces += [
            escape(lines[end : match.start()]),
            Markup('<span class="unseen">U+{:04X}</span>').format(ord(match[0])),
        ]
        end = match.end()
    return Markup("<bdi>{}</bdi>").format(Markup("").join([*pieces, escape(lines[end:])]))
