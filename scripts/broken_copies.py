"""Shows that the tests can fail: each deliberate mistake in broken_copies.yaml, made in a copy, must fail its tests.

    python scripts/broken_copies.py [WORD …]      only mistakes whose name, file or tests contain one of the words
    python scripts/broken_copies.py --out benchmarks/results/broken_copies.md

Run it by hand; it takes about ten seconds per test. The exit status is 1 if a test passes on a broken copy, or fails on
the unchanged one.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True)
class Break:
    """A deliberate mistake: `old`, which must occur once in `file`, is replaced with `new`; `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: list[str]

    @property
    def broken(self) -> str:
        text = (ROOT / self.file).read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(
                f"{LIST.name}: {self.name}: `old` occurs {text.count(self.old)} times in {self.file}; expected once"
            )
        return text.replace(self.old, self.new)


def breaks() -> list[Break]:
    return [Break(**entry) for entry in yaml.safe_load(LIST.read_text(encoding="utf-8"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--broken-only", action="store_true", help="skip the tests on the unchanged copy")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    words = arguments.words or [""]
    chosen = [each for each in breaks() if any(word in f"{each.name} {each.file} {each.tests}" for word in words)]
    with tempfile.TemporaryDirectory(prefix="broken-") as folder:
        copy = copied(Path(folder))
        tests = sorted({test for each in chosen for test in each.tests})
        whole = [] if arguments.broken_only else tried(copy, tests)
        rows, wrong = [], [f"{test}: fails on the unchanged copy" for test in whole]
        for each in chosen:
            with replaced(copy / each.file, each.broken):
                failures = tried(copy, each.tests)
            unnoticed = [test for test in each.tests if not any(name.startswith(test) for name in failures)]
            wrong += [f"{each.name}: unnoticed by {test}" for test in unnoticed]
            rows += [(each, name, reason) for name, reason in failures.items()]
            print(f"{each.name}: " + ("UNNOTICED" if unnoticed else f"noticed by {len(failures)}"), flush=True)
    if arguments.out:
        arguments.out.write_text(table(rows, wrong), encoding="utf-8")
    sys.exit("\n".join(wrong) or 0)


def copied(folder: Path) -> Path:
    """Copy the files that git tracks or does not ignore, and link the embedded model."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if (ROOT / "dagster_home" / "models").exists():
        (folder / "dagster_home" / "models").symlink_to(ROOT / "dagster_home" / "models")
    return folder


@contextmanager
def replaced(file: Path, text: str) -> Iterator[None]:
    whole = file.read_text(encoding="utf-8")
    file.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        file.write_text(whole, encoding="utf-8")


def tried(copy: Path, tests: list[str]) -> dict[str, str]:
    """Return the tests that failed in the copy → the reason in one line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", *tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, timeout=300 * len(tests), check=False, **pipes)
    except subprocess.TimeoutExpired:
        return dict.fromkeys(tests, "timed out")
    if done.returncode not in (0, 1):  # no test was collected, or pytest itself failed
        raise RuntimeError(done.stdout + done.stderr)
    found = re.findall(r"^(?:FAILED|ERROR) (\S+?::.*?)(?: - (.*))?$", done.stdout, re.MULTILINE)
    return {name: " ".join(reason.split())[:160] for name, reason in found}


def table(rows: list[tuple[Break, str, str]], wrong: list[str]) -> str:
    lines = [
        "Deliberate mistakes in a copy of the tree, and the tests that failed on them.",
        "",
        f"`python scripts/broken_copies.py`, {datetime.now(UTC):%Y-%m-%d}, 2 CPU cores. Unnoticed: {len(wrong)}.",
        "",
        "| broken | in | test that fails | with |",
        "| --- | --- | --- | --- |",
    ]
    for each, name, reason in rows:
        file, _, test = name.partition("::")
        cells = [each.name, f"`{each.file}`", f"`{Path(file).name}`: {test}", reason]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", *wrong]).rstrip() + "\n"


if __name__ == "__main__":
    main()
