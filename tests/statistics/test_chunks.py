"""Splitting of resamples into chunks."""

from hypothesis import given
from hypothesis import strategies as st

from persona_assets.statistics.chunks import chunks


@given(st.integers(0, 5000), st.integers(1, 5_000_000))
def test_every_row_is_in_exactly_one_chunk_in_order(rows: int, width: int) -> None:
    cut = list(chunks(rows, width))
    assert [row for part in cut for row in range(part.start, part.stop)] == list(range(rows))
    assert all((part.stop - part.start) * width <= 2_000_000 or part.stop - part.start == 1 for part in cut)
