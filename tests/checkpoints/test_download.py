"""A hub repository's files are downloaded once: what the index names, nothing from folders, no second copy."""

from pathlib import Path

from persona_assets.checkpoints.files import weight_names
from tests.local_hub import LocalHub

DOWNLOAD = """
import sys
from persona_assets.checkpoints import Checkpoint
checkpoint = Checkpoint(name="theirs", hub="lab/model", revision=sys.argv[1])
texts = checkpoint.texts()
print(sorted(file.name for file in texts.iterdir()))
print(sorted(file.name for file in checkpoint.directory().rglob("*") if file.is_file()))
"""


def test_only_what_is_loaded_is_downloaded(tiny_directory: Path, tmp_path: Path) -> None:
    files = {file.name: file.read_bytes() for file in tiny_directory.iterdir()}
    copies = ("consolidated.safetensors", "original/model.safetensors", "metal/model.safetensors", "pytorch_model.bin")
    with LocalHub() as hub:
        revision = hub.commit("lab/model", {**files, **dict.fromkeys(copies, files["model.safetensors"])})
        done = hub.run(DOWNLOAD, revision, home=tmp_path)
        assert done.returncode == 0, done.stderr
        texts, everything = done.stdout.splitlines()
        asked = [path for path in hub.asked if "/resolve/" in path]
    assert texts == str(sorted(set(files) - {"model.safetensors"}))
    assert everything == str(sorted(files))
    assert not [path for path in asked if any(copy in path for copy in copies)]


def test_the_index_names_the_weights(tmp_path: Path) -> None:
    assert weight_names(tmp_path, "model") == ["model.safetensors"]
    (tmp_path / "model.safetensors.index.json").write_text(
        '{"weight_map": {"b": "2.safetensors", "a": "1.safetensors"}}'
    )
    assert weight_names(tmp_path, "model") == ["1.safetensors", "2.safetensors"]
