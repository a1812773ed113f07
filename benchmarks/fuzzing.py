"""Fuzzing for hours instead of seconds: the targets of `tests/fuzz`, with different seeds in each run.

    python -m benchmarks.fuzzing --seconds 900 [--kinds study,registry] [--keep DIR] [--out FILE.md]
    python -m benchmarks.fuzzing --atheris study --seconds 300 --keep DIR     # coverage-guided; needs `atheris`

A fault is any error that is not one of the project's own, takes more than a second or 200 MB, or does not name the file
or field. Faults are printed and their inputs kept in DIR, to be moved to `tests/fuzz/corpus`. `--out` replaces the part
of the file after its last heading.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FunctionType

from hypothesis import HealthCheck, Phase, given, seed, settings

from benchmarks.reporting import heading, table, version_of
from tests.fuzz.limits import LONGEST_MESSAGE, within_limits
from tests.fuzz.targets import TARGETS, Target, warm

BEHIND = "## The longer run\n"
BATCH = 200


@dataclass
class Tally:
    """Results for one kind of file."""

    executions: int = 0
    taken: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    faults: dict[str, bytes] = field(default_factory=dict)

    def row(self, name: str) -> dict[str, object]:
        return {
            "kind": name,
            "executions": f"{self.executions:,}",
            "seconds": f"{self.seconds:.0f}",
            "refused": f"{self.executions - self.taken:,}",
            "slowest (ms)": f"{self.slowest * 1e3:.0f}",
            "faults": len(self.faults),
        }


def attempt(target: Target, folder: Path, content: bytes) -> str | None:
    """Give one file to a target and return the message with which it is rejected, or None.

    Raises:
        Exception: the input revealed a fault.
    """
    with within_limits():
        message = target(folder, content)
    if message is not None:
        assert target.named in message, f"does not name the file or field: {message[:200]}"
        assert len(message) <= LONGEST_MESSAGE, f"a message of {len(message)} characters"
    return message


def fuzz(target: Target, seconds: float, first_seed: int) -> Tally:
    """Try batches of examples until the time is over."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        target.scaffold(folder)

        def one(content: bytes) -> None:
            begun = time.perf_counter()
            try:
                tally.taken += attempt(target, folder, content) is None
            except Exception as error:  # record the fault and continue
                place = error.__traceback__
                while place and place.tb_next:
                    place = place.tb_next
                where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place else "?"
                tally.faults.setdefault(f"{type(error).__name__} at {where}: {str(error)[:150]}", content)
            tally.executions += 1
            tally.slowest = max(tally.slowest, time.perf_counter() - begun)

        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            batch: Callable[[], None] = seed(first_seed)(
                settings(
                    max_examples=BATCH,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )(given(target.inputs)(one))
            )
            batch()
            first_seed += 1
        tally.seconds = time.monotonic() - begun
    return tally


def functions_of(*packages: str) -> Iterator[FunctionType]:
    """Yield the functions and methods of modules that are loaded.

    Only of these packages, because instrumenting all of PyTorch would take minutes.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith(packages):
            for found in vars(module).values():
                inside = vars(found).values() if isinstance(found, type) else [found]
                yield from (each for each in inside if isinstance(each, FunctionType) and each.__module__ == name)


def fuzz_by_coverage(name: str, seconds: int, kept: Path) -> None:
    """Run libFuzzer, guided by the executed lines of the project and of PyYAML; ends the process."""
    import atheris

    warm()
    target = TARGETS[name]
    folder, seeds = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    target.scaffold(folder)
    corpus = Path("tests/fuzz/corpus") / name.replace(" ", "-").replace("/", "-")
    for number, file in enumerate([*corpus.glob("*"), folder / target.file]):
        if file.is_file():
            (seeds / str(number)).write_bytes(file.read_bytes())
    for function in functions_of("persona_assets.", "yaml."):
        atheris.instrument_func(function)
    kept.mkdir(parents=True, exist_ok=True)
    limits = ["-rss_limit_mb=4096", "-timeout=20", "-max_len=4096"]
    options = [f"-max_total_time={seconds}", f"-artifact_prefix={kept}/", *limits]
    atheris.Setup([sys.argv[0], str(seeds), *options], lambda content: attempt(target, folder, content))
    atheris.Fuzz()


def keep(folder: Path, name: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kind = name.replace(" ", "-").replace("/", "-")
    (folder / f"{kind}-{sha256(content).hexdigest()[:12]}").write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600, help="in total, for all kinds")
    parser.add_argument("--kinds", help="comma-separated kinds; by default all")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, help="folder for the inputs that revealed a fault")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--atheris", metavar="KIND", help="fuzz this kind with coverage guidance")
    arguments = parser.parse_args()
    if arguments.atheris:
        fuzz_by_coverage(arguments.atheris, int(arguments.seconds), arguments.keep or Path())
        return
    names = arguments.kinds.split(",") if arguments.kinds else list(TARGETS)
    warm()
    rows, found = [], {}
    for name in names:
        tally = fuzz(TARGETS[name], arguments.seconds / len(names), arguments.seed)
        rows.append(tally.row(name))
        print(json.dumps(rows[-1]), flush=True)
        for fault, content in tally.faults.items():
            print(f"  {fault}", flush=True)
            found[f"{name}: {fault}"] = content
            if arguments.keep:
                keep(arguments.keep, name, content)
    executions = sum(int(str(row["executions"]).replace(",", "")) for row in rows)
    text = f"`python -m benchmarks.fuzzing --seconds {arguments.seconds:.0f} --seed {arguments.seed}`, {heading()}\n"
    text += f"Hypothesis {version_of('hypothesis')}; {executions:,} executions, {len(found)} faults.\n\n{table(rows)}\n"
    print(text)
    if arguments.out:
        before = arguments.out.read_text().split(BEHIND)[0] if arguments.out.is_file() else ""
        arguments.out.write_text(f"{before}{BEHIND}\n{text}")


if __name__ == "__main__":
    main()
