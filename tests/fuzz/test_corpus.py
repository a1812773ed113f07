"""Every bad input that was found, or thought of, stays refused: one file each, in the folder of its kind.

What was refused by a traceback, after minutes, or not at all, when it was first tried, is listed in
`benchmarks/results/fuzzing.md`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.limits import LONGEST_MESSAGE, within_limits
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).with_name("corpus")
FOLDERS = {name: CORPUS / name.replace(" ", "-").replace("/", "-") for name in TARGETS}
FILES = [(name, file) for name, folder in FOLDERS.items() for file in sorted(folder.glob("*"))]


@pytest.mark.parametrize(("name", "file"), FILES, ids=lambda value: value.stem if isinstance(value, Path) else value)
def test_a_bad_file_is_refused_by_name(name: str, file: Path, folder_of: Callable[[str], Path]) -> None:
    target = TARGETS[name]
    with within_limits():
        message = target(folder_of(name), file.read_bytes())
    if not target.errors:  # it has no error of its own: bad content is the same as none
        assert message is None
        return
    assert message is not None, "was taken"
    assert target.named in message
    assert len(message) <= LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("study", "key-twice", "line 2, column 1: duplicate key 'name'; expected each key once"),
        ("study", "temperature-infinite", "decoding.temperature: found inf; input should be a finite number"),
        (
            "study",
            "a-date-that-is-none",
            "found '2025-13-45', which is not a valid date; expected a date, or text",
        ),
        ("study", "a-set", "found !!set; expected text, numbers, lists and mappings"),
        (
            "registry",
            "nobodys-home",
            "mine: path: found '~nobody-here/x'; expected the home folder of an existing user",
        ),
        ("registry", "seven-twice", "'7' appears twice; expected it once"),
        ("published divergence_matrices.json", "js-not-a-number", "js_matrix.0.1: found NaN; expected a finite number"),
        ("published generations.json", "half-a-surrogate", "villain.Why?.0: found '\\ud800', which has an unpaired"),
        ("published generations.json", "persona-twice", "duplicate key 'villain'; expected each key once"),
        ("leakage csv", "row-too-long", "row 4: 6 cells; expected 5"),
        ("leakage csv", "row-too-short", "row 4: 2 cells; expected 5"),
        ("leakage csv", "column-twice", "column 'found' appears twice; expected it once"),
        ("leakage csv", "found-not-a-number", "row 1 (villain → comedian): found is nan; expected a whole number"),
        ("safetensors", "tensor-twice", "duplicate key 'a'; expected each key once"),
        ("safetensors", "header-of-18-exabytes", "found header length 18446744073709551615 in a file of"),
        (
            "safetensors index",
            "shard-leads-out",
            "weight_map: a: found '../../etc/passwd.safetensors'; expected the name",
        ),
        ("config", "hidden-not-a-number", "config.json: hidden_size: found 'NaN'; expected a whole number"),
        ("tokenizer config", "another-tokenizer", "fast_tokenizer_files: found ['../elsewhere/tokenizer.4.0.json']"),
        ("chat template", "text-of-100-GB", "needs more than 150 MiB of memory"),
        ("chat template", "globals", "access to attribute '__init__' of 'type' object is unsafe"),
        ("embedded archive", "member-missing", "is missing; expected the model's weights"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    name: str, file: str, said: str, folder_of: Callable[[str], Path]
) -> None:
    found = {(kind, bad.stem): bad for kind, bad in FILES}[name, file]
    assert said in str(TARGETS[name](folder_of(name), found.read_bytes()))


def test_every_kind_has_its_bad_files() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= {folder.name for folder in FOLDERS.values()}
    assert len(FILES) > 200
