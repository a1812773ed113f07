"""What is installed is what was tested, to the byte; `scripts/audit.py` says the same to people."""

import shutil
from importlib.metadata import Distribution, distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def audit(repository: Path) -> Any:
    spec = spec_from_file_location("audit", repository / "scripts" / "audit.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_pinned_to_what_is_installed(audit: Any, repository: Path) -> None:
    installed = audit.needed("persona-assets", ["dev"])
    installed.pop("persona-assets")
    assert {"dagster", "torch", "transformers", "grpcio", "pytest"} <= set(installed)
    pins = audit.pinned(repository / "constraints.txt", repository / "scripts" / "install.sh")
    assert audit.unpinned(installed, pins) == []


def test_a_dependency_that_is_not_pinned_is_named(audit: Any) -> None:
    installed = {"pydantic": distribution("pydantic"), "typer": distribution("typer")}
    assert audit.unpinned(installed, {"pydantic": "1.0"}) == [
        f"pydantic {distribution('pydantic').version}: is pinned to 1.0",
        f"typer {distribution('typer').version}: is not pinned",
    ]


def test_a_file_that_is_not_what_the_package_brought_is_named(audit: Any, tmp_path: Path) -> None:
    held = distribution("typer")
    assert audit.changed(held) == []
    for name in ("typer", f"typer-{held.version}.dist-info"):
        shutil.copytree(str(held.locate_file(name)), tmp_path / name)
    copied = Distribution.at(tmp_path / f"typer-{held.version}.dist-info")
    (tmp_path / "typer" / "main.py").write_text("import os\n")
    (tmp_path / "typer" / "core.py").unlink()
    found = [line.removeprefix(f"{tmp_path}/typer/") for line in audit.changed(copied) if "/bin/" not in line]
    assert found == ["core.py: is gone", f"main.py: is not what typer {held.version} brought"]
