"""CSV tables of others, read as text and within bounds: not too large, not too wide, each column once."""

import csv
import io
import os
import stat
from itertools import islice
from pathlib import Path

import pandas as pd

LARGEST = 8 * 2**20
MOST_COLUMNS = 1000


def read_csv(path: Path, most_rows: int | None = None) -> pd.DataFrame:
    """A CSV file's cells as text (UTF-8, commas, a header), an empty cell as an empty text.

    All of them as text, so that one bad cell does not change how its column is read, nor `null` stops being a name.

    Args:
        most_rows: rows behind these are not read.

    Raises:
        ValueError: it cannot be read, is no table, or names a column twice; says why, without the file's name.
    """
    try:
        text = regular_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    if "\0" in text:
        raise ValueError("holds a NUL character, so it is no text")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if not header:
            raise ValueError("holds nothing")
        if len(header) > MOST_COLUMNS:
            raise ValueError(f"{len(header)} columns; expected at most {MOST_COLUMNS}")
        if twice := [name for place, name in enumerate(header) if name in header[:place]]:
            raise ValueError(f"column {shown(twice[0])} stands twice; expected it once")
        rows = list(islice((line for line in lines if line), most_rows))
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number}: {len(row)} cells; expected {len(header)}, as many as there are columns")
    return pd.DataFrame(rows, columns=header, dtype="str")


def regular_file(path: Path, largest: int = LARGEST) -> bytes:
    """A regular file's bytes; a FIFO, which would wait, a device and a file that is too large are not read.

    Raises:
        ValueError: it is none, cannot be opened, or is too large; says why, without the file's name.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("is no regular file")
            content = b"" if status.st_size > largest else stream.read(largest + 1)
    except OSError as error:
        raise ValueError(str(error.strerror)) from error
    if (size := max(status.st_size, len(content))) > largest:
        raise ValueError(f"is {size / 2**20:.1f} MiB; expected at most {largest / 2**20:.0f} MiB; it was not read")
    return content


def named(name: str) -> str:
    """A name that somebody gave, without quotes, cut where it is long."""
    return shown(name)[1:-1] if len(name) < 70 else f"{name[:60]!r}…"


def shown(value: object, length: int = 80) -> str:
    """A value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]} … ({len(text)} characters)"
