"""Audit of the project's installed packages: `python scripts/audit.py`.

Answers three questions, each in a few lines; the exit status is 1 if any answer is bad.

1. Is every direct and indirect dependency pinned to the installed version? (constraints.txt; for PyTorch
   scripts/install.sh)
2. Are the installed files unchanged? (SHA-256 of every file listed in a package's RECORD)
3. Are there known vulnerabilities? (pip-audit, if it is installed and can reach PyPI; what could not be checked is
   reported. It may have its own environment: `pipx install pip-audit`.)
"""

import argparse
import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from shutil import which

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Not pinned: PyTorch's GPU builds pin their own versions, and its CPU build needs none of these.
FREE = re.compile(r"triton|nvidia-.*|cuda-.*")
PIN = re.compile(r'^(?:TORCH=")?([A-Za-z0-9_.-]+)==([^\s;"]+)', re.MULTILINE)


def pinned(*files: Path) -> dict[str, str]:
    """Return package → version for every `name==version` at the start of a line."""
    return {canonicalize_name(name): version for file in files for name, version in PIN.findall(file.read_text())}


def needed(name: str, extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """Return the installed direct and indirect dependencies of a package and its extras."""
    found: dict[str, Distribution] = {}
    asked = [(name, frozenset(extras))]
    seen = set()
    while asked:
        package, wanted = asked.pop()
        if (package, wanted) in seen:
            continue
        seen.add((package, wanted))
        try:
            found[canonicalize_name(package)] = held = distribution(package)
        except PackageNotFoundError:  # part of an extra that is not installed
            continue
        for text in held.requires or ():
            requirement = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *wanted)]
            if requirement.marker is None or any(map(requirement.marker.evaluate, environments)):
                asked.append((requirement.name, frozenset(requirement.extras)))
    return found


def unpinned(installed: dict[str, Distribution], pins: dict[str, str]) -> list[str]:
    """Return the packages that are not pinned, or are pinned to a version other than the installed one."""
    lines = []
    for name, held in sorted(installed.items()):
        version = held.version.partition("+")[0]  # a local build (torch 2.13.0+cpu) is the same version
        if FREE.fullmatch(name):
            continue
        if name not in pins:
            lines.append(f"{name} {version}: is not pinned")
        elif pins[name] != version:
            lines.append(f"{name} {version}: is pinned to {pins[name]}")
    return lines


def changed(held: Distribution) -> list[str]:
    """Return the files of an installed package that are missing or do not match the SHA-256 in its RECORD."""
    lines = []
    # Not `held.files`, which leaves out missing files from Python 3.12 on.
    for name, recorded, _ in csv.reader((held.read_text("RECORD") or "").splitlines()):
        kind, _, expected = recorded.partition("=")
        if kind != "sha256":
            continue
        path = Path(str(held.locate_file(name)))
        if not path.is_file():
            lines.append(f"{path}: is gone")
            continue
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != expected:
            lines.append(f"{path}: is not what {held.name} {held.version} brought")
    return lines


def known_weaknesses(constraints: Path) -> tuple[bool, list[str]]:
    """Return whether pip-audit finds no vulnerability in the pinned versions, and a line per vulnerability and gap."""
    command = which("pip-audit", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if command is None:
        return True, ["not checked: pip-audit is not installed"]
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([command, "--requirement", str(constraints), *options], capture_output=True, text=True)
    if not done.stdout.startswith("{"):
        return True, [f"not checked: {(done.stderr.strip() or 'pip-audit printed nothing').splitlines()[-1]}"]
    asked = json.loads(done.stdout)["dependencies"]
    weak = [
        f"{each['name']} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
        for each in asked
        for found in each.get("vulns", ())
    ]
    skipped = sum("skip_reason" in each for each in asked)
    return not weak, [f"{len(weak)} known in {len(asked) - skipped} packages; not checked: {skipped}", *weak]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--extra", action="append", default=["dev"], help="extra of the project to audit in addition to dev"
    )
    chosen = arguments.parse_args()
    constraints = ROOT / "constraints.txt"
    installed = needed("persona-assets", chosen.extra)
    own = installed.pop("persona-assets")
    loose = unpinned(installed, pinned(constraints, ROOT / "scripts" / "install.sh"))
    print(f"pins       {len(installed)} packages of {own.name} {own.version}; not as pinned: {len(loose)}")
    print(*(f"           {line}" for line in loose), sep="\n", end="\n" if loose else "")
    damaged = [line for held in installed.values() for line in changed(held)]
    print(f"files      changed since installation: {len(damaged)}")
    print(*(f"           {line}" for line in damaged), sep="\n", end="\n" if damaged else "")
    is_good, said = known_weaknesses(constraints)
    print("weaknesses " + "\n           ".join(said))
    return 0 if is_good and not loose and not damaged else 1


if __name__ == "__main__":
    sys.exit(main())
