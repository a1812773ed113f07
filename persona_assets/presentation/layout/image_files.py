"""Figures as bytes. The same figure gives the same bytes: nothing written depends on the clock or the machine."""

import base64
import io
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from persona_assets.presentation.layout.style import house_style
from persona_assets.presentation.layout.svg_fonts import with_fonts

PNG_DPI, INLINE_DPI = 200, 110
_INLINE_COLOURS = 128


def to_png(figure: Figure, dpi: int = PNG_DPI) -> bytes:
    """The figure as PNG at `dpi` pixels an inch."""
    return _written(figure, "png", {"Software": None}, dpi=dpi)


def to_pdf(figure: Figure) -> bytes:
    """The figure as PDF with vector shapes and real (TrueType) text."""
    return _written(figure, "pdf", {"CreationDate": None, "Creator": None, "Producer": None})


def to_svg(figure: Figure) -> bytes:
    """The figure as SVG with real text and the glyphs that it takes, so that it looks the same everywhere."""
    return with_fonts(_written(figure, "svg", {"Date": None, "Creator": None}))


def data_url(image: bytes, media_type: str = "image/png") -> str:
    """An image as a URL that holds the image itself."""
    return f"data:{media_type};base64,{base64.b64encode(image).decode('ascii')}"


def inline_markdown(figure: Figure | bytes, alt: str) -> str:
    """The figure as one Markdown image, small enough to be stored with an asset's metadata.

    Args:
        figure: what to show; where it was written as PNG already, at `PNG_DPI`, those bytes spare drawing it again.
        alt: what a reader who does not see the image is told; brackets and line breaks are taken out.
    """
    plain_alt = " ".join(alt.replace("[", "(").replace("]", ")").split())
    png = _shrunk(figure) if isinstance(figure, bytes) else to_png(figure, INLINE_DPI)
    return f"![{plain_alt}]({data_url(_fewer_colours(png))})"


def _written(figure: Figure, kind: str, metadata: dict[str, None], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=kind, metadata=metadata, **options)
    return buffer.getvalue()


def _shrunk(png: bytes) -> bytes:
    """A PNG written at `PNG_DPI` as it would be at `INLINE_DPI`."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        size = tuple(round(side * INLINE_DPI / PNG_DPI) for side in image.size)
        image.convert("RGB").resize((size[0], size[1]), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _fewer_colours(png: bytes) -> bytes:
    """A palette of 128 colours halves the file; fills and text edges look the same."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(_INLINE_COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
