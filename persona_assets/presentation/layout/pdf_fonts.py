"""Faster embedding of fonts in PDF files.

Matplotlib embeds a subset of every font, and fontTools spends most of that time on the tables of kerning and glyph
substitution. A PDF places each glyph itself and never reads them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fontTools import subset

LAYOUT_TABLES = ("GDEF", "GPOS", "GSUB", "kern")


class _WithoutLayout(subset.Options):  # type: ignore[misc]
    """Options of a subset that drops layout tables."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drop_tables.extend(LAYOUT_TABLES)


@contextmanager
def without_layout_tables() -> Iterator[None]:
    """Subset fonts without their layout tables; changes a global of fontTools, so callers hold the lock of the style.

    Matplotlib has no setting for this. If it stops using `subset.Options`, files are larger and written more slowly.
    """
    options = subset.Options
    subset.Options = _WithoutLayout
    try:
        yield
    finally:
        subset.Options = options
