"""Untrusted CSV tables: what is accepted, and the exact error for everything else."""

import re
from pathlib import Path

import pytest

from persona_assets.metrics import csv_files
from persona_assets.metrics.csv_files import LARGEST, MOST_COLUMNS, named, read_csv, regular_file, shown


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.csv"


def assert_refused(file: Path, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        read_csv(file)


def test_cells_are_text_and_blank_lines_are_skipped(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfname,count\r\n\r\nnull,007\r\n,\r\n")
    table = read_csv(file)
    assert table.columns.tolist() == ["name", "count"]
    assert table.to_numpy().tolist() == [["null", "007"], ["", ""]]
    assert table.dtypes.astype(str).tolist() == ["str", "str"]


def test_rows_beyond_the_limit_are_not_read(file: Path) -> None:
    file.write_bytes(b"a,b\n1,2\n\n3,4\nno row at all\n")
    assert read_csv(file, most_rows=2).to_numpy().tolist() == [["1", "2"], ["3", "4"]]
    assert read_csv(file, most_rows=0).columns.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,\xff\n", "byte 6 is not UTF-8"),
        (b"a,b\n1,\0\n", "contains a NUL character, so it is not text"),
        (b"", "is empty"),
        (b"\n1,2\n", "is empty"),
        (b"a,b,b,a\n", "column 'b' appears twice; expected it once"),
        (b"a,b\n1,2\n3\n", "row 2: 1 cells; expected 2, one per column"),
        (b"a,b\n1,2,3\n", "row 1: 3 cells; expected 2, one per column"),
        (b'a,b\n1,2\n"3"4,5\n', "line 3: ',' expected after '\"'"),
    ],
)
def test_the_error_for_an_invalid_table_says_why_and_where(file: Path, content: bytes, said: str) -> None:
    assert_refused(file, content, said)


def test_the_column_limit_is_inclusive(file: Path) -> None:
    names = [f"c{place}" for place in range(MOST_COLUMNS + 1)]
    file.write_text(",".join(names[:-1]))
    assert read_csv(file).columns.tolist() == names[:-1]
    assert_refused(file, ",".join(names).encode(), "1001 columns; expected at most 1000")


def test_the_size_limit_is_inclusive(file: Path) -> None:
    file.write_bytes(b"x" * 2**21)
    assert regular_file(file, largest=2**21) == b"x" * 2**21
    with pytest.raises(ValueError, match=r"^is 2\.0 MiB, so it was not read; expected at most 1 MiB$"):
        regular_file(file, largest=2**20)
    with pytest.raises(ValueError, match=r"^is 2\.0 MiB, so it was not read; expected at most 2 MiB$"):
        regular_file(file, largest=2**21 - 1)
    with file.open("wb") as stream:
        stream.truncate(LARGEST)
    assert len(regular_file(file)) == LARGEST == 8 * 2**20
    with file.open("wb") as stream:
        stream.truncate(LARGEST + 1)
    with pytest.raises(ValueError, match=r"^is 8\.0 MiB, so it was not read; expected at most 8 MiB"):
        regular_file(file)


def test_a_file_that_grows_while_it_is_read_is_too_large(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(b"x" * 100)
    real = csv_files.os.fstat

    def grows(descriptor: int) -> object:
        before = real(descriptor)
        with file.open("ab") as stream:
            stream.write(b"x" * 100)
        return before

    monkeypatch.setattr(csv_files.os, "fstat", grows)
    with pytest.raises(ValueError, match=r"^is 0\.0 MiB"):
        regular_file(file, largest=150)


def test_an_unreadable_file_gives_the_operating_systems_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^No such file or directory$"):
        regular_file(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"^(is not a regular file|Is a directory)$"):
        regular_file(tmp_path)


def test_only_long_values_are_truncated() -> None:
    assert shown("it's") == '"it\'s"'
    assert shown("x" * 78) == f"'{'x' * 78}'"  # 80 characters with its quotes
    assert shown("x" * 79) == f"'{'x' * 79} … (81 characters)"
    assert shown(12345, length=3) == "123 … (5 characters)"


def test_names_have_no_quotes_and_long_ones_are_truncated() -> None:
    assert named("villain\n") == "villain\\n"
    assert named("x" * 69) == "x" * 69
    assert re.fullmatch(r"'x{60}'…", named("x" * 70))
