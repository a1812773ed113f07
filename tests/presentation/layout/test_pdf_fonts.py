"""Fonts in PDF files have every glyph of the text, and no tables that a PDF never reads."""

import io
import re
import zlib

from fontTools import subset
from fontTools.ttLib import TTFont

from persona_assets.presentation import to_pdf
from persona_assets.presentation.layout.pdf_fonts import LAYOUT_TABLES
from persona_assets.presentation.layout.style import house_style, new_figure

TEXT = "AVATo – ρ = −0.5"


def fonts(pdf: bytes) -> list[TTFont]:
    """Return the TrueType fonts that a PDF embeds."""
    streams = (zlib.decompress(found[1]) for found in re.finditer(rb"stream\r?\n(x\x9c.*?)\nendstream", pdf, re.DOTALL))
    return [TTFont(io.BytesIO(content)) for content in streams if content[:4] == b"\x00\x01\x00\x00"]


def test_embedded_fonts_have_the_glyphs_and_no_layout_tables() -> None:
    options = subset.Options
    with house_style():
        figure = new_figure(89, 30)
        figure.text(0.1, 0.5, TEXT)
    embedded = fonts(to_pdf(figure))  # Matplotlib writes several for more than 256 codes
    assert not set(LAYOUT_TABLES) & set().union(*(font.keys() for font in embedded))
    drawn = [name for font in embedded for name in font.getGlyphOrder() if font["glyf"][name].numberOfContours]
    assert len(drawn) >= len(set(TEXT.replace(" ", "")))
    assert subset.Options is options
