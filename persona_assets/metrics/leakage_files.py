"""Import of leakage counts and source rates from tables or the published marker_eval files."""

import io
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from persona_assets.metrics.csv_files import LARGEST, named, read_csv, regular_file, shown
from persona_assets.metrics.imported_counts import NEGATIVES, REQUIRED, LeakageError, check_leakage_table
from persona_assets.metrics.leakage import build_leakage_table

_MOST_VALUES = 200_000
_USED = (*REQUIRED, "rate", *NEGATIVES, "persona", "source_rate")


def read_leakage_table(path: Path, personas: Collection[str]) -> pd.DataFrame:
    """Read a table of counts: one row per (source, target), columns source, target, found, total.

    rate, trained_negative and negative_share are optional, as in `check_leakage_table`.

    Args:
        path: `.csv` (UTF-8, commas, a header) or `.parquet`.
        personas: the study's personas.

    Returns:
        As in `check_leakage_table`, in the file's order.

    Raises:
        LeakageError: the file cannot be read, or is invalid as in `check_leakage_table`; the message names the file.
    """
    return check_leakage_table(_read_table(path, personas), personas, str(path))


def _read_table(path: Path, personas: Collection[str]) -> pd.DataFrame:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise LeakageError(f"{path}: is a {suffix or 'file without suffix'}; expected .csv or .parquet")
    if not path.is_file():
        raise LeakageError(f"{path}: does not exist or is not a file; expected a .csv or .parquet file")
    most_rows = len(personas) ** 2 + 1  # one more than the number of dyads, so a longer table has an invalid row
    try:
        if suffix == ".csv":
            table = read_csv(path, most_rows)
            return table.mask(table == "", None)
        return _read_parquet(regular_file(path), most_rows)
    except Exception as error:  # the exception for a damaged file depends on the reader
        expected = "" if "expected" in str(error) else f"; expected a {suffix[1:]} table"
        raise LeakageError(f"{path}: cannot be read: {str(error)[:500]}{expected}") from error


def _read_parquet(content: bytes, most_rows: int) -> pd.DataFrame:
    """Read the used columns, after checking the number of rows and the uncompressed size."""
    file = pq.ParquetFile(io.BytesIO(content))
    if file.metadata.num_rows > most_rows:
        raise ValueError(f"{file.metadata.num_rows} rows; expected at most {most_rows - 1}, one per dyad")
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    if (size := sum(group.total_byte_size for group in groups)) > 10 * LARGEST:
        raise ValueError(f"{size / 2**20:.0f} MiB uncompressed; expected at most {10 * LARGEST / 2**20:.0f} MiB")
    names = file.schema_arrow.names
    used = [name for name in names if name in _USED]
    if len(set(used)) < len(used):
        raise ValueError(f"columns {', '.join(used)}: one appears twice; expected it once")
    if not used:
        return pd.DataFrame(columns=names)
    table = file.read(columns=used)
    table.validate(full=True)  # otherwise invalid UTF-8 is only noticed where the text is used
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    return frame


def read_marker_eval(directory: Path, personas: Collection[str]) -> pd.DataFrame:
    """Read the published `marker_eval/SOURCE.json` files: target → rate, found, total, category, related_to.

    Sources and targets that are not in `personas` are left out, because the published files cover 111 targets.
    `category` and `related_to` are ignored, because the study defines them.

    Returns:
        source, target, found, total (int64), rate (found / total): sources by name, targets in the file's order.

    Raises:
        LeakageError: no file is named after a persona, a file cannot be read, or entries are invalid (all are listed,
            as in `check_leakage_table`); the message names the file.
    """
    files = counts_of(directory, personas)
    if not files:
        raise LeakageError(
            f"{directory}: no file is named after a persona; expected SOURCE.json, SOURCE one of {', '.join(personas)}"
        )
    rows, labels = [], []
    for file in files:
        for target, entry in _read_targets(file):
            if target in personas:
                counts = entry if isinstance(entry, dict) else {}
                rows.append((file.stem, target, *(counts.get(name) for name in ("found", "total", "rate"))))
                labels.append(f"{file.name}: {target}")
    table = pd.DataFrame(rows, columns=["source", "target", "found", "total", "rate"], dtype=object)
    return check_leakage_table(table, personas, str(directory), labels)


def counts_of(directory: Path, personas: Collection[str]) -> list[Path]:
    """Return the files of a `marker_eval` folder that are named after a persona, sorted by name."""
    return [file for file in sorted(directory.glob("*.json")) if file.stem in personas]


def read_source_rates(path: Path, personas: Collection[str]) -> pd.DataFrame:
    """Read externally measured source rates, with predictors (similarity to the baseline) if the file has them.

    Args:
        path: CSV (UTF-8, commas, a header): persona, source_rate, and predictors js…, cosine… between the persona and
            the baseline.
        personas: the study's personas.

    Returns:
        persona, source_rate and the predictors (float64).

    Raises:
        LeakageError: the file cannot be read, lacks a column, repeats a persona, names an unknown one, or has a value
            that is not a number or out of range.
    """
    table = _read_table(path, personas)
    if absent := [column for column in ("persona", "source_rate") if column not in table.columns]:
        raise LeakageError(f"{path}: columns {', '.join(absent)} are missing; expected persona, source_rate")
    for row, name in enumerate(table["persona"], start=1):
        if name not in personas or name in set(table["persona"][: row - 1]):
            raise LeakageError(
                f"{path}: row {row}: found {shown(name)}; expected each persona of the study at most once"
            )
    predictors = [str(column) for column in table.columns if str(column).startswith(("js", "cosine"))]
    numbers: pd.DataFrame = table[["source_rate", *predictors]].apply(pd.to_numeric, errors="coerce").astype("float64")
    for column in ("source_rate", *predictors):
        low, high = (0.0, 1.0) if column == "source_rate" else (-1.0, 1.0)
        bad = ~numbers[column].between(low, high)
        if bad.any():
            row = int(bad.to_numpy().argmax())
            found = table[column].iloc[row]
            raise LeakageError(
                f"{path}: row {row + 1}: {column}: found {shown(found)}; expected a number in [{low}, {high}]"
            )
    numbers.insert(0, "persona", table["persona"].astype("str"))
    return numbers


class _Pairs(list[tuple[str, Any]]):
    """The key–value pairs of a JSON object, kept as a list because a dict would silently drop duplicate keys."""


def _read_targets(file: Path) -> list[tuple[str, Any]]:
    try:
        text = regular_file(file).decode("utf-8")
        if text.count(",") + text.count("[") + text.count("{") > _MOST_VALUES:
            raise ValueError(f"more than {_MOST_VALUES} values")
        # NaN is kept as text, so that the check of its row reports it.
        content = json.loads(text, object_pairs_hook=_Pairs, parse_constant=str)
    except RecursionError:
        raise LeakageError(
            f"{file}: cannot be parsed: nested too deeply; expected JSON, target → found, total, rate"
        ) from None
    except ValueError as error:
        raise LeakageError(
            f"{file}: cannot be parsed: {str(error)[:500]}; expected JSON, target → found, total, rate"
        ) from error
    if not isinstance(content, _Pairs):
        raise LeakageError(f"{file}: found {type(content).__name__}; expected a mapping from target to counts")
    return [(target, _as_mapping(file, target, entry)) for target, entry in content]


def _as_mapping(file: Path, target: str, entry: Any) -> Any:
    if not isinstance(entry, _Pairs):
        return entry
    twice = [name for name, times in Counter(name for name, _ in entry).items() if times > 1]
    if twice:
        raise LeakageError(f"{file}: {named(target)}: {named(', '.join(twice))} appears twice; expected it once")
    return dict(entry)


def imported_leakage_table(
    table: pd.DataFrame,
    personas: Mapping[str, str],
    related: Mapping[str, Sequence[str]],
    recipe: str,
    level: float = 0.95,
) -> pd.DataFrame:
    """Build the leakage table of imported counts; base and expected rates are not imported, so they are missing.

    Args:
        table: result of `read_leakage_table` or `read_marker_eval`.
        personas, related, recipe, level: as in `build_leakage_table`.

    Returns:
        As `build_leakage_table`, with base_found, base_total and base_rate missing in every row. trained_negative and
        negative_share are those of the table, unknown if it lacks them.
    """
    by_source = {str(source): counts for source, counts in table.groupby("source", sort=False)}
    built = build_leakage_table(by_source, None, personas, related, recipe, level)
    if not set(NEGATIVES) <= set(table.columns):
        return built
    dyads = pd.MultiIndex.from_frame(built[["source", "target"]])
    known = table.set_index(["source", "target"])[list(NEGATIVES)].reindex(dyads)
    return built.assign(**{name: known[name].array for name in NEGATIVES})
