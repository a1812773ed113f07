"""Conversion between tables and Parquet bytes, for artefacts that consist of several files."""

import io

import pandas as pd


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return the table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def from_parquet(content: bytes) -> pd.DataFrame:
    """Read a table from the bytes of a Parquet file."""
    return pd.read_parquet(io.BytesIO(content))
