"""Splitting of work on many resamples into chunks that fit in memory."""

from collections.abc import Iterator

_NUMBERS = 2_000_000  # 16 MB of float64; a handful of such arrays exist at a time


def chunks(rows: int, width: int) -> Iterator[slice]:
    """Yield slices that split `rows` rows of `width` numbers each into parts of a few million numbers."""
    step = max(1, _NUMBERS // max(1, width))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
