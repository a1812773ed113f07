"""Writes a release's fixture: a small instance created by this version, which every later version must be able to open.

    python scripts/make_upgrade_fixture.py        run it before tagging a release, and commit the result

tests/fixtures/releases/<version>/instance.tar.xz contains the instance (databases, artefacts, registry, study) and the
random model of three blocks that it measured; made_with.json records the versions. A fixture is never changed.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (
    "dagster",
    "torch",
    "transformers",
    "peft",
    "numpy",
    "pandas",
    "pyarrow",
    "xarray",
    "h5netcdf",
    "SQLAlchemy",
)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    out = ROOT / "tests" / "fixtures" / "releases" / version("persona-assets")
    if out.exists():
        sys.exit(f"{out} already exists; a release's fixture is never changed")
    # The instance's path is recorded in its event log, so it must reveal nothing about this machine.
    root = Path(tempfile.gettempdir()) / "persona-assets-release"
    root.mkdir()
    try:
        measure(root)
        out.mkdir(parents=True)
        pack(root, out / "instance.tar.xz")
    finally:
        shutil.rmtree(root)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    made_with = {
        "version": version("persona-assets"),
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
    }
    (out / "made_with.json").write_text(json.dumps(made_with, indent=1) + "\n", encoding="utf-8")
    print(f"{out}: {(out / 'instance.tar.xz').stat().st_size / 2**20:.2f} MiB")


def measure(root: Path) -> None:
    """Measure the tests' random model with the tests' small study, up to the report."""
    from tests.tiny_model import write_tiny_model

    study = yaml.safe_load((ROOT / "tests" / "small_study.yaml").read_text(encoding="utf-8"))
    study["statistics"] = {"permutations": 100, "resamples": 100}
    study["marker"] |= {"training": {"epochs": 1}, "evaluation": {"samples": 2, "max_new_tokens": 4}}
    study["marker"] |= {"lora": {"r": 4, "alpha": 8}}  # keeps the file small
    (root / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")
    write_tiny_model(root / "tiny")
    os.environ |= {"DAGSTER_HOME": str(root), "PERSONA_ASSETS_STUDY": str(root / "study.yaml")}
    command = [sys.executable, "-m", "persona_assets.cli"]
    subprocess.run([*command, "checkpoint", "add", "tiny", "--path", str(root / "tiny")], cwd=ROOT, check=True)
    registry = root / "checkpoints.yaml"
    registry.write_text(registry.read_text(encoding="utf-8").replace(str(root / "tiny"), "tiny"), encoding="utf-8")
    subprocess.run([*command, "run", "--checkpoint", "tiny"], cwd=ROOT, check=True)


def pack(root: Path, archive: Path) -> None:
    """Archive everything except locks and the cache of digests, which are specific to the machine."""

    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if entry.name.endswith((".lock", "weights_digests.json")):
            return None
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    with tarfile.open(archive, "w:xz", preset=9) as tar:
        tar.add(root, arcname=".", filter=kept)


if __name__ == "__main__":
    main()
