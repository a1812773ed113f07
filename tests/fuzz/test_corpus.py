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


def test_every_kind_has_its_bad_files() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= {folder.name for folder in FOLDERS.values()}
    assert len(FILES) > 200
