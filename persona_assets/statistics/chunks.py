"""Work on many resamples at once, without holding all of them in memory."""

from collections.abc import Iterator

_NUMBERS = 2_000_000  # 16 MB of float64: a handful of such arrays live at a time


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Slices that cut `rows` rows of `width` numbers each into parts of a few million numbers."""
    step = max(1, _NUMBERS // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
