"""SVG with embedded font subsets, so that its text is real text and looks the same everywhere."""

import base64
import html
import io
import re
from functools import lru_cache

from fontTools.subset import Options, Subsetter
from fontTools.ttLib import TTFont
from matplotlib.font_manager import FontProperties, findfont

_FAMILY = "DejaVu Sans"
_ALWAYS = "".join(map(chr, range(32, 127))) + "–·ρτ√×−“”’…↵²³⁰¹⁴⁵⁶⁷⁸⁹⁻"
_WEIGHTS = {400: "normal", 700: "bold"}
_TEXT = re.compile(r"<text[^>]*>(.*?)</text>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def with_fonts(svg: bytes) -> bytes:
    """Embed the glyphs of all texts in an SVG that matplotlib wrote with `svg.fonttype: none`.

    Each font weight is a subset of matplotlib's font as a data URL (WOFF). Equal texts give equal bytes.
    """
    text = svg.decode()
    bold = "".join(found[1] for found in _TEXT.finditer(text) if "font-weight: 700" in found[0].partition(">")[0])
    plain = "".join(found[1] for found in _TEXT.finditer(text) if "font-weight: 700" not in found[0].partition(">")[0])
    faces = "".join(_face(weight, _glyphs(shown)) for weight, shown in ((400, plain), (700, bold)) if shown)
    return text.replace("<defs>", f"<defs>\n  <style>text{{white-space:pre}}{faces}</style>", 1).encode()


def _glyphs(shown: str) -> str:
    """Return the glyphs of a text plus a common set, so that most figures share a cached subset."""
    return "".join(sorted({*_ALWAYS, *html.unescape(_TAG.sub("", shown))}))


@lru_cache(maxsize=64)
def _face(weight: int, glyphs: str) -> str:
    font = TTFont(findfont(FontProperties(family=_FAMILY, weight=_WEIGHTS[weight])), recalcTimestamp=False, lazy=True)
    options = Options()
    # Like matplotlib's text layout: kerning and no other features.
    options.layout_features, options.hinting, options.name_IDs = ["kern"], False, []
    options.drop_tables += ["FFTM"]
    subset = Subsetter(options)
    subset.populate(text=glyphs)
    subset.subset(font)
    font.flavor = "woff"
    buffer = io.BytesIO()
    font.save(buffer)
    url = f"data:font/woff;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return f"@font-face{{font-family:'{_FAMILY}';font-weight:{weight};src:url({url})}}"
