"""Files that are not what their names say: huge, endless, waiting, links that lead out of where they lie."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_assets.checkpoints import Checkpoint, CheckpointError, DigestCache, identify
from persona_assets.inference.loading import read_chat
from tests.fuzz.limits import LONGEST_MESSAGE, within_limits
from tests.fuzz.targets import TARGETS, Target, safetensors_bytes, write_checkpoint

# Fed to Jinja and to Transformers by the test itself, whose own reading is not under test.
OPTIONAL = ("generation config", "tokenizer config", "safetensors index", "published data_questions.json")
READ = [name for name in TARGETS if name not in ("chat template", "tokenizer", "embedded archive")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path)
    return tmp_path


def refusal(target: Target, folder: Path) -> str | None:
    with within_limits():
        try:
            target.feed(folder)
        except target.errors as error:
            return str(error)
    return None


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda file: os.truncate(file, 2**30), id="a gigabyte"),
        pytest.param(lambda file: (file.unlink(), os.mkfifo(file)), id="a FIFO"),
        pytest.param(lambda file: (file.unlink(), file.symlink_to("/dev/zero")), id="a device"),
        pytest.param(lambda file: (file.unlink(), file.mkdir()), id="a folder"),
    ],
)
def test_what_is_no_file_of_its_size_is_not_read(name: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    target = TARGETS[name]
    target.scaffold(tmp_path)
    file = tmp_path / target.file
    file.touch()
    make(file)
    message = refusal(target, tmp_path)
    if not target.errors or name in OPTIONAL:
        return  # bad content is the same as none, or the file need not be there: that it comes back soon is what counts
    if name.startswith("published") and file.parent.name != "marker_eval":
        assert message is None or file.name in message
        return
    assert message is not None, "was taken"
    assert len(message) <= LONGEST_MESSAGE


SECRET = "root:x:0:0:a secret of this machine"


@pytest.mark.parametrize(
    "name",
    [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "model.safetensors",
        "merges.txt",
        "additional_chat_templates/other.jinja",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ],
)
def test_a_link_out_of_the_checkpoint_is_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "passwd"
    secret.write_text(SECRET)
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(secret)
    checkpoint = Checkpoint(name="mine", path=folder, adapter=folder / "adapter")
    for read in (lambda: identify(checkpoint, DigestCache(folder / "digests.json")), lambda: read_chat(checkpoint)):
        with pytest.raises(
            CheckpointError, match=f"{Path(name).name}: is a link to {secret}; expected a target within"
        ) as caught:
            read()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("make", [os.mkfifo, lambda file: Path(file).symlink_to("/dev/zero")], ids=["FIFO", "device"])
@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "special_tokens_map.json", "additional_chat_templates/x.jinja"]
)
def test_a_checkpoints_file_that_never_ends_is_not_opened(
    folder: Path, make: Callable[[Path], None], name: str
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    make(folder / name)
    with within_limits(), pytest.raises(CheckpointError, match=Path(name).name):
        read_chat(Checkpoint(name="mine", path=folder))


def test_a_hubs_cache_is_a_checkpoint(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its snapshots are links to blobs that are named by their digest."""
    expected = identify(Checkpoint(name="mine", path=folder), DigestCache(folder / "digests.json"))
    repository = tmp_path_factory.mktemp("hub") / "models--someone--mine"
    snapshot, blobs = repository / "snapshots" / ("a" * 40), repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(path for path in sorted(folder.iterdir()) if path.is_file()):
        shutil.copy(file, blobs / f"{number:064x}")
        (snapshot / file.name).symlink_to(Path("..") / ".." / "blobs" / f"{number:064x}")
    found = identify(Checkpoint(name="mine", path=snapshot), DigestCache(folder / "digests.json"))
    assert found == expected
    read_chat(Checkpoint(name="mine", path=snapshot))


def test_weights_may_be_shared_by_links_of_the_same_name(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(shared / "tokenizer.json")
    (folder / "weights").mkdir()
    (folder / "model.safetensors").rename(folder / "weights" / "step-500.bin")
    (folder / "model.safetensors").symlink_to("weights/step-500.bin")
    assert identify(Checkpoint(name="mine", path=folder), DigestCache(folder / "digests.json"))


def test_links_in_a_circle_are_refused(folder: Path) -> None:
    (folder / "a.json").symlink_to("b.json")
    (folder / "b.json").symlink_to("a.json")
    with within_limits(), pytest.raises(CheckpointError, match=r"a\.json"):
        identify(Checkpoint(name="mine", path=folder), DigestCache(folder / "digests.json"))


def test_weights_of_a_gigabyte_cost_no_memory(folder: Path) -> None:
    """A header that lies about a sparse file of 1 GiB, and one of 16 MiB that is all JSON."""
    file = folder / "model.safetensors"
    os.truncate(file, 2**30)
    checkpoint = Checkpoint(name="mine", path=folder)
    with within_limits(), pytest.raises(CheckpointError, match=r"model\.safetensors is not a complete"):
        identify(checkpoint, DigestCache(folder / "digests.json"))
    file.write_bytes(
        safetensors_bytes({str(n): {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in range(40_000)})
    )
    with within_limits(), pytest.raises(CheckpointError, match=r"model\.safetensors is not a complete"):
        identify(checkpoint, DigestCache(folder / "digests.json"))
