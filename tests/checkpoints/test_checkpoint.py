"""Identity is computed from file contents; incomplete and unsafe checkpoints are rejected with the file's name."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from persona_assets.checkpoints import (
    Checkpoint,
    CheckpointError,
    DigestCache,
    Identity,
    check_complete,
    identify,
    stamp,
)
from persona_assets.checkpoints.files import chat_template

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path) -> DigestCache:
    return DigestCache(tmp_path / "weights_digests.json")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    directory = tmp_path / "adapter"
    directory.mkdir()
    save_file({"lora_A": torch.ones(2, 4)}, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2}))
    return directory


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**(json.loads(file.read_text()) if file.is_file() else {}), **values}))


def shard(directory: Path) -> list[Path]:
    """Split a directory's weights into two shards and an index."""
    tensors = load_file(directory / "model.safetensors")
    names = sorted(tensors)
    weight_map = {name: f"model-0000{1 + (place % 2)}-of-00002.safetensors" for place, name in enumerate(names)}
    for file in set(weight_map.values()):
        save_file({name: tensors[name] for name in names if weight_map[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "model.safetensors").unlink()
    return [directory / file for file in sorted(set(weight_map.values()))]


def identity(directory: Path, cache: DigestCache, name: str = "tiny", **more: Any) -> Identity:
    return identify(Checkpoint(name=name, path=directory, **more), cache)


def test_identity_does_not_depend_on_time_path_or_name(tiny_directory: Path, adapter: Path, cache: DigestCache) -> None:
    before = identity(tiny_directory, cache, adapter=adapter)
    elsewhere = tiny_directory.with_name("elsewhere")
    shutil.move(tiny_directory, elsewhere)
    for file in elsewhere.iterdir():
        os.utime(file, (1, 1))
    moved_adapter = Path(shutil.move(adapter, adapter.with_name("moved-adapter")))
    after = identity(elsewhere, cache, name="renamed", adapter=moved_adapter)
    assert after == before
    assert after.digest == before.digest


def test_identity_contains_the_models_shape(tiny_directory: Path, cache: DigestCache) -> None:
    found = identity(tiny_directory, cache)
    assert (found.architecture, found.blocks, found.hidden, found.vocabulary) == ("LlamaForCausalLM", 3, 32, 259)
    assert found.weights_bytes == (tiny_directory / "model.safetensors").stat().st_size
    assert found.adapter is None


@pytest.mark.parametrize(
    ("field", "alter"),
    [
        pytest.param("weights", lambda d: flip_last_byte(d / "model.safetensors"), id="one byte of the weights"),
        pytest.param(
            "adapter",
            lambda d: flip_last_byte(d.with_name("adapter") / "adapter_model.safetensors"),
            id="of the adapter",
        ),
        pytest.param(
            "adapter", lambda d: change(d.with_name("adapter") / "adapter_config.json", r=4), id="adapter's rank"
        ),
        pytest.param("tokenizer", lambda d: change(d / "tokenizer.json", truncation={"max_length": 9}), id="tokenizer"),
        pytest.param(
            "tokenizer",
            lambda d: change(d / "special_tokens_map.json", eos_token="a"),
            id="additional tokenizer file",
        ),
        pytest.param(
            "chat_template", lambda d: (d / "chat_template.jinja").write_text("{{ messages }}"), id="chat template"
        ),
        pytest.param("config", lambda d: change(d / "config.json", rms_norm_eps=1e-4), id="a value of the config"),
        pytest.param(
            "config", lambda d: change(d / "generation_config.json", eos_token_id=[2, 1]), id="end-of-turn token"
        ),
    ],
)
def test_identity_changes_only_in_the_modified_part(
    tiny_directory: Path, adapter: Path, cache: DigestCache, field: str, alter: Callable[[Path], object]
) -> None:
    before = identity(tiny_directory, cache, adapter=adapter)
    alter(tiny_directory)
    after = identity(tiny_directory, cache, adapter=adapter)
    changed = {name for name, value in after if value != getattr(before, name)}
    assert changed == {field}
    assert after.digest != before.digest


def test_identity_does_not_depend_on_the_library_version_in_the_config(
    tiny_directory: Path, cache: DigestCache
) -> None:
    before = identity(tiny_directory, cache)
    for file in ("config.json", "generation_config.json"):
        change(tiny_directory / file, transformers_version="0.0.1", _name_or_path="/somewhere/else")
    assert identity(tiny_directory, cache) == before


def test_the_adapter_is_part_of_the_identity(tiny_directory: Path, adapter: Path, cache: DigestCache) -> None:
    base, adapted = identity(tiny_directory, cache), identity(tiny_directory, cache, adapter=adapter)
    assert base.digest != adapted.digest
    assert base.weights == adapted.weights


def test_series_and_step_are_not_part_of_the_identity(tiny_directory: Path, cache: DigestCache) -> None:
    assert identity(tiny_directory, cache, series="run7", step=500) == identity(tiny_directory, cache)


def test_identity_depends_on_every_shard(tiny_directory: Path, cache: DigestCache) -> None:
    shards = shard(tiny_directory)
    before = identity(tiny_directory, cache)
    assert before.weights_bytes == sum(file.stat().st_size for file in shards)
    flip_last_byte(shards[1])
    assert identity(tiny_directory, cache).weights != before.weights


def test_a_missing_shard_is_reported_with_its_index(tiny_directory: Path, cache: DigestCache) -> None:
    shard(tiny_directory)[1].unlink()
    with pytest.raises(CheckpointError) as caught:
        identity(tiny_directory, cache)
    assert f"{tiny_directory}/model.safetensors.index.json names model-00002-of-00002.safetensors" in str(caught.value)
    assert "which does not exist; the checkpoint is still being written" in str(caught.value)


def test_a_truncated_file_is_rejected(tiny_directory: Path, cache: DigestCache) -> None:
    file = tiny_directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a complete safetensors file.*is truncated"):
        identity(tiny_directory, cache)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config.json", r"config\.json does not exist; the checkpoint is incomplete"),
        ("model.safetensors", r"model\.safetensors does not exist; expected weights as safetensors"),
        ("tokenizer.json", r"no tokenizer found; expected tokenizer\.json"),
        ("chat_template.jinja", r"no chat template in chat_template\.jinja or tokenizer_config\.json"),
    ],
)
def test_a_missing_file_is_reported(tiny_directory: Path, cache: DigestCache, name: str, expected: str) -> None:
    (tiny_directory / name).unlink()
    with pytest.raises(CheckpointError, match=expected) as caught:
        identity(tiny_directory, cache)
    assert str(tiny_directory) in str(caught.value)


def test_a_missing_directory_is_reported(tmp_path: Path, cache: DigestCache) -> None:
    expected = r"tiny: .*absent does not exist; expected a Hugging Face model directory"
    with pytest.raises(CheckpointError, match=expected):
        identity(tmp_path / "absent", cache)


def test_a_missing_adapter_is_reported(tiny_directory: Path, cache: DigestCache) -> None:
    with pytest.raises(CheckpointError, match=r"absent does not exist; expected the directory of a LoRA adapter"):
        identity(tiny_directory, cache, adapter=tiny_directory / "absent")


def test_a_truncated_config_is_rejected(tiny_directory: Path, cache: DigestCache) -> None:
    file = tiny_directory / "config.json"
    file.write_text(file.read_text()[:50])
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON.*still being written"):
        identity(tiny_directory, cache)


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{{ messages }}", id="one"),
        pytest.param(
            [{"name": "tool_use", "template": "other"}, {"name": "default", "template": "{{ messages }}"}], id="several"
        ),
    ],
)
def test_a_chat_template_inside_tokenizer_config_is_found(tiny_directory: Path, template: object) -> None:
    (tiny_directory / "chat_template.jinja").unlink()
    change(tiny_directory / "tokenizer_config.json", chat_template=template)
    assert chat_template(tiny_directory) == "{{ messages }}"


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"])
def test_pickled_weights_are_rejected_even_next_to_safetensors(
    tiny_directory: Path, cache: DigestCache, name: str
) -> None:
    (tiny_directory / name).write_bytes(b"\x80\x04.")
    with pytest.raises(
        CheckpointError, match=r"contains pickled weights, which can run code.*expected safetensors only"
    ) as caught:
        identity(tiny_directory, cache)
    assert str(tiny_directory / name) in str(caught.value)


def test_other_files_of_a_trainer_are_ignored(tiny_directory: Path, adapter: Path, cache: DigestCache) -> None:
    before = identity(tiny_directory, cache, adapter=adapter)
    for name in ("training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (tiny_directory / name).write_bytes(b"\x80\x04.")
        (adapter / name).write_bytes(b"\x80\x04.")
    assert identity(tiny_directory, cache, adapter=adapter) == before


def test_an_unchanged_file_is_only_read_again_on_request(tmp_path: Path, cache: DigestCache) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"before")
    before, status = cache.digest(file), file.stat()
    file.write_bytes(b"behind")  # same size, and the modification time is restored below
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert cache.digest(file) == before
    assert cache.digest(file, recheck=True) != before
    assert cache.digest(file) != before  # the new digest is cached


def test_a_file_with_a_new_time_or_size_is_read_again(tmp_path: Path, cache: DigestCache) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"before")
    before = cache.digest(file)
    file.write_bytes(b"behind")
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert cache.digest(file) != before


@pytest.mark.parametrize("content", ["{cut", "[1, 2]", "7", "null", '{"%s": 5}', '{"%s": [6]}', "\x00"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, cache: DigestCache, content: str) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"before")
    before = cache.digest(file)
    cache.file.write_text(content.replace("%s", str(file.resolve())))
    assert cache.digest(file) == before
    assert json.loads(cache.file.read_text())[str(file.resolve())][2] == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: shard(d)[1].unlink(),
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-1]),
        lambda d: (d / "pytorch_model.bin").write_bytes(b"\x80\x04."),
        lambda d: (d / "config.json").unlink(),
        lambda d: change(d / "config.json", hidden_size="32"),
        lambda d: change(d / "config.json", text_config=[32]),
        lambda d: (d / "generation_config.json").write_text("{"),
        lambda d: (d / "chat_template.jinja").unlink(),
        lambda d: (d / "chat_template.jinja").write_bytes(b"\xff"),
        lambda d: (d / "tokenizer.json").unlink(),
        lambda d: (d.with_name("adapter") / "adapter_model.safetensors").unlink(),
        lambda d: (d.with_name("adapter") / "adapter_config.json").write_text("{"),
    ],
)
def test_check_complete_raises_the_same_errors_as_identify(
    tiny_directory: Path, adapter: Path, cache: DigestCache, damage: Callable[[Path], object]
) -> None:
    checkpoint = Checkpoint(name="tiny", path=tiny_directory, adapter=adapter)
    check_complete(checkpoint)
    damage(tiny_directory)
    with pytest.raises(CheckpointError) as refused:
        identify(checkpoint, cache)
    with pytest.raises(CheckpointError) as incomplete:
        check_complete(checkpoint)
    assert str(incomplete.value) == str(refused.value)


def test_check_complete_downloads_nothing(adapter: Path) -> None:
    """Offline and without a cached repository, only the adapter's files are checked."""
    checkpoint = Checkpoint(name="tiny", hub="someone/absent", revision=COMMIT, adapter=adapter)
    check_complete(checkpoint)
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors does not exist"):
        check_complete(checkpoint)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "chat_template.jinja", "tokenizer.json"])
def test_the_stamp_changes_with_every_file_of_the_model(tiny_directory: Path, name: str) -> None:
    checkpoint, file = Checkpoint(name="tiny", path=tiny_directory), tiny_directory / name
    before = stamp(checkpoint)
    with file.open("ab") as being_written:
        being_written.write(b" ")
    appended = stamp(checkpoint)
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    touched = stamp(checkpoint)
    file.unlink()
    assert len({before, appended, touched, stamp(checkpoint)}) == 4


def test_the_stamp_changes_with_the_adapter(tiny_directory: Path, adapter: Path) -> None:
    checkpoint = Checkpoint(name="tiny", path=tiny_directory, adapter=adapter)
    before = stamp(checkpoint)
    change(adapter / "adapter_config.json", lora_alpha=16)
    assert stamp(checkpoint) != before


def test_the_stamp_ignores_other_files_of_a_trainer(tiny_directory: Path) -> None:
    checkpoint = Checkpoint(name="tiny", path=tiny_directory)
    before = stamp(checkpoint)
    (tiny_directory / "optimizer.pt").write_bytes(b"state")
    (tiny_directory / "training_args.bin").write_bytes(b"arguments")
    (tiny_directory / "checkpoint-500").mkdir()
    (tiny_directory / "checkpoint-500" / "model.safetensors").write_bytes(b"another")
    assert stamp(checkpoint) == before


def test_the_stamp_does_not_depend_on_path_or_name(tiny_directory: Path, tmp_path: Path) -> None:
    before = stamp(Checkpoint(name="tiny", path=tiny_directory))
    moved = tiny_directory.rename(tmp_path / "moved")
    assert stamp(Checkpoint(name="renamed", path=moved)) == before


def test_the_stamp_of_a_repository_depends_on_its_name_and_commit() -> None:
    stamps = {
        stamp(Checkpoint(name="tiny", hub=hub, revision=revision))
        for hub, revision in (("a/b", COMMIT), ("a/c", COMMIT), ("a/b", "f" * 40), ("a/b", COMMIT))
    }
    assert len(stamps) == 3


def test_errors_while_computing_a_stamp_name_the_folder(tmp_path: Path) -> None:
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match=f"tiny: {absent} does not exist"):
        stamp(Checkpoint(name="tiny", path=absent))
    with pytest.raises(CheckpointError, match=f"tiny: {empty} contains no checkpoint files yet"):
        stamp(Checkpoint(name="tiny", path=empty))
    with pytest.raises(CheckpointError, match="tiny: is an imported run, which has no weights"):
        stamp(Checkpoint(name="tiny", imported=empty))


@pytest.fixture
def hub_cache(tmp_path: Path, tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a snapshot in a hub cache as huggingface_hub writes it, with symbolic links to blobs."""
    from huggingface_hub import constants

    hub = tmp_path / "hub"
    repository = hub / "models--someone--tiny"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(sorted(tiny_directory.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    assert constants.HF_HUB_OFFLINE
    return snapshot


def test_a_repository_at_a_commit_is_found_in_the_hub_cache(
    hub_cache: Path, tiny_directory: Path, cache: DigestCache
) -> None:
    checkpoint = Checkpoint(name="tiny", hub="someone/tiny", revision=COMMIT)
    assert checkpoint.directory() == hub_cache
    assert identify(checkpoint, cache) == identity(tiny_directory, cache)


@pytest.mark.parametrize(
    ("hub", "revision"),
    [("someone/absent", COMMIT), ("someone/tiny", "f" * 40), ("not/a/repository", COMMIT)],
    ids=["other repository", "other commit", "invalid name"],
)
@pytest.mark.usefixtures("hub_cache")
def test_a_failed_download_is_reported(hub: str, revision: str) -> None:
    with pytest.raises(CheckpointError, match=f"tiny: {hub} at {revision} could not be downloaded: "):
        Checkpoint(name="tiny", hub=hub, revision=revision).directory()
