"""Little that stands for much: texts that are built here, since the corpus keeps small files only."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_assets.files.reading import MIB, UnreadableError, parse_json
from persona_assets.files.yaml_files import MAX_VALUES, parse_yaml
from persona_assets.study import StudyError
from persona_assets.study.files import load_study
from tests.fuzz.limits import within_limits
from tests.fuzz.targets import STUDY, TARGETS

PLACE = Path("here")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a: 1" + ":1" * 300_000, id="a number to the base 60"),
        pytest.param("a: 0x" + "f" * 1_000_000, id="a hexadecimal number"),
        pytest.param("a: " + "9" * 1_000_000, id="a number"),
        pytest.param("[" * 1_000_000, id="brackets"),
        pytest.param("- " * 100_000, id="dashes"),
        pytest.param("? " * 100_000, id="question marks"),
        pytest.param("".join(" " * n + "a:\n" for n in range(1000)), id="indentation"),
        pytest.param("[" + "a, " * 500_000, id="values"),
        pytest.param("".join(f"k{n}:\n" for n in range(200_000)), id="names"),
        pytest.param("!" * 1_000_000, id="a tag"),
        pytest.param('"' + "\\x41" * 450_000, id="escapes"),
        pytest.param("a: &a [" + "x, " * 10_000 + "]\nb: [" + "*a, " * 10_000 + "]", id="aliases"),
    ],
)
def test_yaml_that_stands_for_much_is_refused_at_once(text: str) -> None:
    with within_limits(), pytest.raises(UnreadableError, match=r"^here: ") as caught:
        parse_yaml(text, PLACE)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 4_000_000, id="brackets"),
        pytest.param("[" + "[]," * 2_000_000 + "1]", id="lists"),
        pytest.param("[" + '{"a":1},' * 900_000 + "1]", id="objects"),
        pytest.param('["' + "\\ud800" * 1_000_000 + '"]', id="halves of surrogate pairs"),
        pytest.param("9" * 4_000_000, id="a number"),
        pytest.param("{" + '"a":1,' * 60_000 + '"a":1}', id="one name"),
        pytest.param("[" * 900 + "]" * 900, id="levels that Python still reads"),
    ],
)
def test_json_that_stands_for_much_is_refused_at_once(text: str) -> None:
    with within_limits(), pytest.raises(UnreadableError, match=r"^here: ") as caught:
        parse_json(text, PLACE)
    assert len(str(caught.value)) < 1000


def test_a_study_as_large_as_may_be_is_read_within_the_limits(tmp_path: Path) -> None:
    """Checks grow with a study's size, not with its square."""
    questions = [f"What is {number}, and why is it so?" for number in range(MAX_VALUES // 2 - 100)]
    training = [f"Who made {number}?" for number in range(MAX_VALUES // 2 - 100)]
    (tmp_path / "study.yaml").write_text(json.dumps({**STUDY, "questions": questions, "training_questions": training}))
    assert (tmp_path / "study.yaml").stat().st_size < 2 * MIB
    with within_limits():
        assert len(load_study(tmp_path / "study.yaml").questions) == len(questions)


def test_as_many_faults_as_fields_make_a_short_message(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps({f"field{number}": number for number in range(6_000)}))
    with within_limits(), pytest.raises(StudyError, match=r"more$") as caught:
        load_study(tmp_path / "study.yaml")
    assert len(str(caught.value)) < 4000


def csv_of(rows: int, columns: int) -> bytes:
    names = ["source", "target", "found", "total", *(f"c{number}" for number in range(columns))]
    row = ["villain", "comedian", "1", "2", *["x"] * columns]
    return "\n".join([",".join(names), *[",".join(row)] * rows]).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("leakage csv", lambda: csv_of(300_000, 0), id="rows"),
        pytest.param("leakage csv", lambda: b",".join([b"a"] * 2_000_000), id="columns"),
        pytest.param("leakage csv", lambda: b"source,target,found,total\n" + b'"' + b"x" * 7_000_000, id="a cell"),
        pytest.param("published dyads2.csv", lambda: csv_of(300_000, 0), id="rows of cosines"),
        pytest.param("source rates", lambda: b"persona,source_rate\n" + b"villain,1\n" * 700_000, id="rows of rates"),
    ],
)
def test_a_table_that_is_long_or_wide_is_refused_at_once(
    name: str, content: Callable[[], bytes], folder_of: Callable[[str], Path]
) -> None:
    made = content()
    with within_limits():
        message = TARGETS[name](folder_of(name), made)
    assert message is not None
    assert TARGETS[name].named in message
