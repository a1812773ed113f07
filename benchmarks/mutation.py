"""Mutation testing of `metrics/` and `statistics/` with mutmut: whether the tests notice small changes of the code.

    python -m benchmarks.mutation --sample 1200 [--seed 42] [--from FOLDER] [--out FILE.md]      # needs `mutmut`
    python -m benchmarks.mutation --names FILE [--out FILE.md]                                   # these mutants only

There are 12,000 mutants, and each takes a second or two, so a random sample is tested and the score has an interval.
`[tool.mutmut]` in pyproject.toml says what is mutated and which tests are run. mutmut works in `build/mutation`, on a
copy of the files that git tracks, and continues there after an interruption. It tests functions with fast tests first,
so an interrupted run has not tested a random sample. `--from` only reports the results in a folder. `--out` replaces
the part of the file after its last heading.

If a test uses a module-scoped fixture, mutmut only records the functions that the test calls itself, because the first
test creates the fixture. Surviving mutants are therefore run again with all test files that reach their function.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from scipy import stats

from benchmarks.reporting import heading, table, version_of

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"
BEHIND = "## The figures\n"
KILLED = {1, 3}  # exit codes: a test failed; pytest failed
UNTESTED = {5, 33}  # exit codes: no test reaches the function
TIMEOUT = {24, -24, 36, 152, 255}


def copy_tree() -> None:
    """Copy the files that git tracks, with their uncommitted changes."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (WORK / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, WORK / name)


def mutmut(*names: str) -> int:
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1"]
    return subprocess.run([*command, *names], cwd=WORK).returncode


def survives_whole_files(name: str) -> bool:
    """Return whether a mutant passes every test of the files that contain a test which reaches its function."""
    reached = json.loads((WORK / "mutants" / "mutmut-stats.json").read_text())["tests_by_mangled_function_name"]
    files = sorted({test.partition("::")[0] for test in reached.get(name.rpartition("__mutmut_")[0], [])})
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files]
    # the mutated package must take precedence over the installed one
    environment = os.environ | {"MUTANT_UNDER_TEST": name, "PYTHONPATH": str(WORK / "mutants")}
    return not files or subprocess.run(command, cwd=WORK / "mutants", env=environment).returncode == 0


def results(folder: Path) -> dict[str, int | None]:
    """Return each mutant's test result by name; None if its tests have not been run."""
    found: dict[str, int | None] = {}
    for file in sorted((folder / "mutants" / "persona_assets").rglob("*.meta")):
        found |= json.loads(file.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def drawn(names: Iterable[str], count: int, seed: int) -> list[str]:
    """Draw a simple random sample; a smaller sample with the same seed is the beginning of a larger one."""
    shuffled = sorted(names)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:count]


def outcome(code: int) -> str:
    names = ((KILLED, "killed"), (UNTESTED, "untested"), (TIMEOUT, "timed out"), ({0}, "survived"))
    return next((name for codes, name in names if code in codes), "other")


def score(killed: int, tried: int) -> str:
    low, high = stats.binomtest(killed, tried).proportion_ci(method="wilson")
    return f"{killed / tried:.1%} ({low:.1%} to {high:.1%})"


def report(every: dict[str, int | None], chosen: list[str]) -> str:
    """Return a table by module, and the survivors. Timeouts count as noticed; mutants that no test reaches do not."""
    ended = {name: outcome(code) for name in chosen if (code := every.get(name)) is not None}
    of_module = {name: name.removeprefix("persona_assets.").partition(".x")[0] for name in every}
    rows = []
    for module in [*sorted(set(of_module.values())), "all"]:
        counts = Counter(end for name, end in ended.items() if module in (of_module[name], "all"))
        noticed, tried = counts["killed"] + counts["timed out"], counts.total()
        rows.append(
            {
                "module": module,
                "mutants": f"{sum(module in (of, 'all') for of in of_module.values()):,}",
                "tried": tried,
                "killed": counts["killed"],
                "timed out": counts["timed out"],
                "survived": counts["survived"] + counts["other"],
                "untested": counts["untested"],
                "score": "" if not tried else score(noticed, tried) if module == "all" else f"{noticed / tried:.0%}",
            }
        )
    alive = [name.removeprefix("persona_assets.") for name, end in ended.items() if end not in ("killed", "timed out")]
    return f"{table(rows)}\n\nAlive: {', '.join(f'`{name}`' for name in sorted(alive)) or 'none'}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--names", type=Path, help="a file with one mutant's name per line, instead of a sample")
    parser.add_argument("--from", dest="folder", type=Path, help="only report mutmut's results in this folder")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or WORK
    if not arguments.folder:
        copy_tree()
        mutmut("nothing")  # creates the mutants and records which tests reach which functions, but runs none
    every = results(folder)
    chosen = arguments.names.read_text().split() if arguments.names else drawn(every, arguments.sample, arguments.seed)
    waiting = [name for name in chosen if every[name] is None]
    if waiting and not arguments.folder:
        mutmut(*waiting)
        every = results(folder)
    if not arguments.folder:
        alive = [name for name in chosen if every[name] == 0]
        every |= {name: 1 for name in alive if not survives_whole_files(name)}
    tried = sum(every[name] is not None for name in chosen)
    how = f"these {len(chosen):,}" if arguments.names else f"a sample of {len(chosen):,}, seed {arguments.seed}"
    text = f"`python -m benchmarks.mutation`, {heading()}\nmutmut {version_of('mutmut')}; {len(every):,} mutants, of "
    text += f"which {how}; {tried:,} tried. Interval: Wilson's, 95 %.\n\n{report(every, chosen)}\n"
    print(text)
    if arguments.out:
        before = arguments.out.read_text(encoding="utf-8").split(BEHIND)[0] if arguments.out.is_file() else ""
        arguments.out.write_text(f"{before}{BEHIND}\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
