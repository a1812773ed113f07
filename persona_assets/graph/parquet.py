"""Tables as the bytes of a Parquet file, for artefacts that are a folder of files."""

import io

import pandas as pd


def to_parquet(table: pd.DataFrame) -> bytes:
    """The table as a Parquet file."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def from_parquet(content: bytes) -> pd.DataFrame:
    """The table of a Parquet file."""
    return pd.read_parquet(io.BytesIO(content))
