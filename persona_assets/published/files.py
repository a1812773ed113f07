"""Reads and validates the JSON files, CSV files and matrices of a published run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from persona_assets.files import reading
from persona_assets.files.reading import LARGEST_JSON, UnreadableError, named, shown
from persona_assets.metrics import csv_files

Floats = NDArray[np.float64]


class PublishedRunError(ValueError):
    """A published run cannot be imported; the message names file and field, what was found and what was expected."""


def matrix_of(
    file: Path,
    content: dict[str, Any],
    field: str,
    order: Sequence[str],
    names: Sequence[str],
    bounds: tuple[float, float],
    symmetric: float | None = None,
) -> Floats:
    """Return a K×K matrix from the file, its personas reordered from `order` to `names`.

    Args:
        order: personas in the order of the file.
        bounds: smallest and largest allowed value.
        symmetric: largest allowed difference between a value and its transpose; None to skip the check.

    Raises:
        PublishedRunError: the matrix has the wrong shape, a value out of bounds, or is not symmetric.
    """
    size = len(order)
    rows = content.get(field)
    if not isinstance(rows, list) or len(rows) != size or any(not isinstance(r, list) or len(r) != size for r in rows):
        shape = f"{len(rows)} rows" if isinstance(rows, list) else kind_of(rows)
        if isinstance(rows, list) and rows and isinstance(rows[0], list):
            shape += f" of {shown(sorted({len(row) if isinstance(row, list) else 0 for row in rows}))} numbers"
        raise PublishedRunError(f"{file}: {field}: found {shape}; expected {size} rows of {size} numbers")
    values = np.array(
        [
            [number(file, f"{field}: {order[i]}, {order[j]}", rows[i][j], *bounds) for j in range(size)]
            for i in range(size)
        ]
    )
    if symmetric is not None and (apart := np.abs(values - values.T)).max() > symmetric:
        i, j = divmod(int(apart.argmax()), size)
        raise PublishedRunError(
            f"{file}: {field}: is not symmetric: found {values[i, j]:.9g} for {order[i]}, {order[j]} and "
            f"{values[j, i]:.9g} for {order[j]}, {order[i]}; expected equal values"
        )
    places = [order.index(name) for name in names]
    return np.asarray(values[np.ix_(places, places)])


def persona_names(file: Path, content: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return the `persona_names` of a file, after checking that they are `names` in any order."""
    order = content.get("persona_names")
    if not isinstance(order, list) or not all(isinstance(name, str) for name in order):
        raise PublishedRunError(f"{file}: persona_names: found {kind_of(order)}; expected the list of personas")
    require_names(file, "persona_names", order, names)
    return order


def require_names(file: Path, place: str, found: Any, expected: Sequence[str]) -> None:
    """Check that `found` contains every expected name exactly once and no other.

    Raises:
        PublishedRunError: a name is unknown, missing or repeated.
    """
    there, wanted = set(found), set(expected)
    if unknown := [name for name in found if name not in wanted]:
        raise PublishedRunError(f"{file}: {place}: {shown(unknown[0])} is unknown; expected {_list(expected)}")
    if missing := [name for name in expected if name not in there]:
        raise PublishedRunError(
            f"{file}: {place}: {shown(missing[0])} is missing; found {len(list(found))} of {len(expected)}"
        )
    if len(list(found)) != len(expected):
        raise PublishedRunError(f"{file}: {place}: found a name twice; expected each once")


def index_of(file: Path, place: str, name: Any, names: Sequence[str]) -> int:
    """Return the index of a name, or raise a PublishedRunError if it is unknown."""
    if name not in names:
        raise PublishedRunError(f"{file}: {place}: {shown(name)} is unknown; expected one of {_list(names)}")
    return list(names).index(name)


def number(file: Path, place: str, value: Any, lowest: float, highest: float) -> float:
    """Return a value as a float, or raise a PublishedRunError if it is not a number within the bounds."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not lowest <= number <= highest:
        bounds = f"[{lowest:.4g}, {highest:.4g}]"
        raise PublishedRunError(f"{file}: {place}: found {shown(value)}; expected a number within {bounds}")
    return number


def mapping(file: Path, content: Any, expected: str, place: str = "") -> dict[str, Any]:
    """Return a mapping, or raise a PublishedRunError if the content is something else."""
    if not isinstance(content, dict):
        raise PublishedRunError(
            f"{file}: {place + ': ' if place else ''}found {kind_of(content)}; expected a mapping: {expected}"
        )
    return content


def read_csv(file: Path, columns: Sequence[str], most_rows: int) -> pd.DataFrame:
    """Read a CSV file, or raise a PublishedRunError if it lacks a column or has more than `most_rows` rows."""
    try:
        table = csv_files.read_csv(file, most_rows + 1)
    except ValueError as error:
        expected = "" if "expected" in str(error) else "; expected a CSV table"
        raise PublishedRunError(f"{file}: cannot be read: {error}{expected}") from error
    if absent := [column for column in columns if column not in table.columns]:
        found = named(", ".join(table.columns))
        raise PublishedRunError(f"{file}: columns {', '.join(absent)} are missing; found columns {found}")
    if len(table) > most_rows:
        raise PublishedRunError(
            f"{file}: found more than {most_rows} rows; expected at most one per possible combination"
        )
    return table


def read_json(file: Path, largest: int = LARGEST_JSON) -> Any:
    """Return the content of a JSON file of at most `largest` bytes, or raise a PublishedRunError."""
    try:
        return reading.read_json(file, largest)
    except UnreadableError as error:
        expected = "; expected a file of the published run" if isinstance(error.__cause__, OSError) else ""
        raise PublishedRunError(f"{error}{expected}") from error


def find_one(directory: Path, pattern: str) -> Path:
    """Return the file that `find` returns, or raise a PublishedRunError if there is none."""
    file = find(directory, pattern)
    if file is None:
        raise PublishedRunError(f"{directory}: no {pattern} found here or in the parent folder; expected one")
    return file


def find(directory: Path, pattern: str, below_only: bool = False) -> Path | None:
    """Return the file that matches a pattern in the folder, or else in its parent, which several runs may share.

    Args:
        below_only: do not look in the parent folder.

    Returns:
        The path, or None if no file matches.

    Raises:
        PublishedRunError: several files match.
    """
    for folder in [directory] if below_only else [directory, directory.absolute().parent]:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise PublishedRunError(f"{folder}: found {', '.join(file.name for file in found)}; expected one {pattern}")
        if found:
            return found[0]
    return None


def kind_of(value: Any) -> str:
    """Return a short description of a JSON value, for error messages."""
    if value is None:
        return "nothing"
    return f"a {type(value).__name__} of {len(value)}" if isinstance(value, list | dict | str) else shown(value)


def _list(names: Sequence[str]) -> str:
    first = ", ".join(named(name, 60) for name in names[:12])
    return first if len(names) <= 12 else f"{first}, … ({len(names)} in total)"
