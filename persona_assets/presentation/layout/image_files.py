"""Figures as reproducible PNG, PDF and SVG bytes, without timestamps or machine-dependent content."""

import base64
import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from persona_assets.presentation.layout.pdf_fonts import without_layout_tables
from persona_assets.presentation.layout.style import house_style
from persona_assets.presentation.layout.svg_fonts import with_fonts

PNG_DPI, INLINE_DPI = 200, 110
_INLINE_COLOURS = 128


def to_png(figure: Figure, dpi: int = PNG_DPI) -> bytes:
    """Return the figure as PNG at `dpi` pixels per inch."""
    return _written(figure, "png", {"Software": None}, dpi=dpi)


def to_pdf(figure: Figure) -> bytes:
    """Return the figure as PDF with vector shapes and TrueType text."""
    return _written(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG with real text and embedded glyphs, so that it looks the same everywhere."""
    return with_fonts(_written(figure, "svg", {"Date": None, "Creator": None}))


def data_url(image: bytes, media_type: str = "image/png") -> str:
    """Return an image as a data URL."""
    return f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"


def inline_markdown(figure: Figure | bytes, alt: str) -> str:
    """Return the figure as a Markdown image, small enough for asset metadata.

    Args:
        figure: the figure, or its PNG at `PNG_DPI`, which saves drawing it again.
        alt: alternative text; brackets become parentheses and line breaks become spaces.
    """
    plain_alt = " ".join(alt.replace("[", "(").replace("]", ")").split())
    png = _shrunk(figure) if isinstance(figure, bytes) else to_png(figure, INLINE_DPI)
    return f"![{plain_alt}]({data_url(_fewer_colours(png))})"


def _written(figure: Figure, kind: str, metadata: dict[str, None], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with house_style(), without_layout_tables():
        figure.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()


def _shrunk(png: bytes) -> bytes:
    """Resample a PNG from `PNG_DPI` to `INLINE_DPI`."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        size = tuple(round(side * INLINE_DPI / PNG_DPI) for side in image.size)
        image.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _fewer_colours(png: bytes) -> bytes:
    """Reduce a PNG to 128 colours, which halves the file without visible change."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(_INLINE_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
