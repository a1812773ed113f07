"""Reading of untrusted CSV tables as text, with limits on size, width and duplicate columns."""

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
    """Return the cells of a CSV file (UTF-8, commas, a header) as text; an empty cell is an empty string.

    Types are not inferred, so one bad cell does not change how its column is read and `null` can be a name.

    Args:
        most_rows: maximum number of rows to read; later rows are ignored.

    Raises:
        ValueError: the file cannot be read, is not a table, or repeats a column. The message omits the file's name.
    """
    try:
        text = regular_file(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    if "\0" in text:
        raise ValueError("contains a NUL character, so it is not text")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [])
        if not header:
            raise ValueError("is empty")
        for separator, what in {";": "semicolons", "\t": "tabs", "|": "bars"}.items():
            if len(header) == 1 and separator in header[0]:
                raise ValueError(f"its columns are separated by {what}; expected commas")
        if len(header) > MOST_COLUMNS:
            raise ValueError(f"{len(header)} columns; expected at most {MOST_COLUMNS}")
        if twice := [name for place, name in enumerate(header) if name in header[:place]]:
            raise ValueError(f"column {shown(twice[0])} appears twice; expected it once")
        rows = list(islice((line for line in lines if line), most_rows))
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number}: {len(row)} cells; expected {len(header)}, one per column")
    return pd.DataFrame(rows, columns=header, dtype="str")


def regular_file(path: Path, largest: int = LARGEST) -> bytes:
    """Return a regular file's bytes, without reading FIFOs (which would block), devices or oversized files.

    Raises:
        ValueError: it is not a regular file, cannot be opened, or is too large. The message omits the file's name.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("is not a regular file")
            content = b"" if status.st_size > largest else stream.read(largest + 1)
    except OSError as error:
        raise ValueError(str(error.strerror)) from error
    if (size := max(status.st_size, len(content))) > largest:
        raise ValueError(f"is {size / 2**20:.1f} MiB, so it was not read; expected at most {largest / 2**20:.0f} MiB")
    return content


def named(name: str) -> str:
    """Return a user-supplied name for an error message, without quotes and truncated if long."""
    return shown(name)[1:-1] if len(name) < 70 else f"{name[:60]!r}…"


def shown(value: object, length: int = 80) -> str:
    """Return a value's repr for an error message, truncated if long."""
    text = repr(value)
    return text if len(text) <= length else f"{text[:length]} … ({len(text)} characters)"
