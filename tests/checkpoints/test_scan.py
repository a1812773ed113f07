"""What a trainer writes to a watched directory is taken when it is whole, and waited for with a reason until then."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from persona_assets.checkpoints import CheckpointError, DigestCache, identify, stamp
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.scan import Arrival, arrivals_in
from persona_assets.checkpoints.watched import Watch
from persona_assets.inference.loading import choose_hardware, load_model
from persona_assets.study.settings import Inference

COMMIT = "a09a35458c702b33eeacc393d103063234e8bc28"
OTHER = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home" / "checkpoints.yaml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "run-7"
    directory.mkdir()
    return directory


@pytest.fixture
def watch(run: Path) -> Watch:
    return Watch(name="run7", directory=run)


@pytest.fixture(scope="session")
def _lora(_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on the tiny model as PEFT writes it, with something in it."""
    directory = tmp_path_factory.mktemp("lora") / "adapter"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(_tiny),
            LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
        )
        model.save_pretrained(directory)
    return directory


@pytest.fixture
def adapter(_lora: Path, run: Path) -> Callable[..., Path]:
    """Puts an adapter into the watched directory; its config says what is asked for."""

    def put(name: str = "checkpoint-10", **config: Any) -> Path:
        directory = Path(shutil.copytree(_lora, run / name))
        file = directory / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return directory

    return put


def only(watch: Watch, registry: Registry) -> Arrival:
    [arrival] = arrivals_in(watch, registry)
    return arrival


def test_a_full_model_is_taken_as_it_is(watch: Watch, run: Path, registry: Registry, tiny_directory: Path) -> None:
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-500"))
    arrival = only(watch, registry)
    assert arrival.name == "run7.checkpoint-500"
    assert arrival.entry == {"path": str(folder), "series": "run7", "step": 500}
    assert arrival.waits is None
    checkpoint = registry.add(arrival.name, arrival.entry)
    assert stamp(checkpoint) == arrival.stamp
    assert arrivals_in(watch, registry) == [arrival]  # registered, and still there


def test_folders_come_by_training_step(watch: Watch, run: Path, registry: Registry) -> None:
    for name in ("checkpoint-final", "checkpoint-1000", "checkpoint-90", "checkpoint-best", "other-5"):
        (run / name).mkdir()
    (run / "checkpoint-best" / "trainer_state.json").write_text('{"global_step": 400}')
    (run / "checkpoint-7").write_text("a file")
    names = [arrival.name.removeprefix("run7.") for arrival in arrivals_in(watch, registry)]
    assert names == ["checkpoint-90", "checkpoint-best", "checkpoint-1000", "checkpoint-final"]


def test_a_missing_directory_is_named(watch: Watch, run: Path, registry: Registry) -> None:
    run.rmdir()
    with pytest.raises(CheckpointError, match=r"watch run7: directory: .*run-7 is not there; expected the folder of"):
        arrivals_in(watch, registry)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lose_a_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lose_a_shard, "index.json names model-00002-of-00002.safetensors, which is not there"),
        (cut, "model.safetensors is not a whole safetensors file"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is not there; the checkpoint is incomplete"),
        (lambda folder: (folder / "config.json").write_text('{"hid'), "config.json cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text('{"text_config": [1]}'), "config.json: num_hidden_layers"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer; expected tokenizer.json"),
        (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xe2\x82"), "cannot be read as text"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80"), "holds pickled weights"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "holds no file of a checkpoint yet"),
    ],
)
def test_what_is_not_whole_waits_with_the_reason(
    watch: Watch,
    run: Path,
    registry: Registry,
    tiny_directory: Path,
    damage: Callable[[Path], object],
    expected: str,
) -> None:
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-500"))
    damage(folder)
    arrival = only(watch, registry)
    assert arrival.entry is None
    assert arrival.waits is not None
    assert expected in arrival.waits
    assert str(folder) in arrival.waits


def test_one_that_waits_does_not_hold_up_the_others(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    for name in ("checkpoint-10", "checkpoint-20", "checkpoint-30"):
        shutil.copytree(tiny_directory, run / name)
    cut(run / "checkpoint-20")
    assert [arrival.waits is None for arrival in arrivals_in(watch, registry)] == [True, False, True]


def test_a_folder_that_is_being_written_has_another_stamp_each_time(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    folder, whole = run / "checkpoint-500", (tiny_directory / "model.safetensors").read_bytes()
    shutil.copytree(tiny_directory, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    stamps = []
    with (folder / "model.safetensors").open("wb") as file:
        for part in (whole[:1000], whole[1000:-8], whole[-8:]):
            file.write(part)
            file.flush()
            stamps.append(only(watch, registry).stamp)
    assert len(set(stamps)) == 3
    assert only(watch, registry).waits is None
    assert only(watch, registry).stamp == stamps[-1]


def test_a_folder_that_gives_no_name_waits(watch: Watch, run: Path, registry: Registry, tiny_directory: Path) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-5 (copy)")
    arrival = only(watch, registry)
    assert arrival.entry is None
    assert f"{run}/checkpoint-5 (copy): 'run7.checkpoint-5 (copy)' is not a name; expected" in str(arrival.waits)


def test_two_watches_with_the_same_folder_names_do_not_collide(
    run: Path, registry: Registry, tiny_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-500")
    shutil.copytree(run, tmp_path / "run-8")
    watches = [Watch(name="run7", directory=run), Watch(name="run8", directory=tmp_path / "run-8")]
    for watch in watches:
        arrival = only(watch, registry)
        assert arrival.entry is not None
        registry.add(arrival.name, arrival.entry)
    assert registry.names() == ["run7.checkpoint-500", "run8.checkpoint-500"]
    assert [registry.get(name).series for name in registry.names()] == ["run7", "run8"]


def test_a_watch_that_moved_to_another_directory_says_that_its_names_are_taken(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-500")
    registry.add("run7.checkpoint-500", {"path": str(tmp_path / "before" / "checkpoint-500")})
    waits = str(only(watch, registry).waits)
    assert f"{run}/checkpoint-500: run7.checkpoint-500 is registered already, for {tmp_path}/before" in waits
    assert "expected a name of its own" in waits


def test_an_entry_that_people_edited_is_still_the_same_folder(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-500")
    registry.add("run7.checkpoint-500", {"path": "../run-7/checkpoint-500", "step": 501})
    assert only(watch, registry).waits is None


@pytest.mark.parametrize(
    ("named", "registered", "base"),
    [
        pytest.param("tiny", {"path": "{tiny}"}, {"path": "{tiny}"}, id="registered name"),
        pytest.param("hub-tiny", {"hub": "lab/tiny"}, {"hub": "lab/tiny", "revision": COMMIT}, id="name of a hub's"),
        pytest.param("{tiny}/../tiny", {"path": "../tiny"}, {"path": "{home}/../tiny"}, id="path of a registered one"),
        pytest.param("{tiny}", {"path": "/elsewhere"}, {"path": "{tiny}"}, id="directory"),
        pytest.param("lab/tiny", {"hub": "lab/tiny"}, {"hub": "lab/tiny", "revision": COMMIT}, id="repository"),
    ],
)
def test_an_adapter_is_put_on_the_base_that_its_config_names(
    watch: Watch,
    registry: Registry,
    adapter: Callable[..., Path],
    tiny_directory: Path,
    named: str,
    registered: dict[str, str],
    base: dict[str, str],
) -> None:
    def filled(text: str) -> str:
        return text.format(tiny=tiny_directory, home=registry.file.parent)

    entry = {field: filled(value) for field, value in registered.items()}
    registry.add("hub-tiny" if "hub" in entry else "tiny", entry | ({"revision": COMMIT} if "hub" in entry else {}))
    folder = adapter(base_model_name_or_path=filled(named))
    arrival = only(watch, registry)
    assert arrival.waits is None
    assert arrival.entry == {
        **{field: filled(value) for field, value in base.items()},
        "adapter": str(folder),
        "series": "run7",
        "step": 10,
    }
    assert stamp(registry.add(arrival.name, arrival.entry)) == arrival.stamp


def test_the_watchs_base_comes_before_what_the_adapter_says(
    run: Path, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path
) -> None:
    registry.add("tiny", {"path": str(tiny_directory)})
    adapter(base_model_name_or_path="somewhere/else")
    entry = only(Watch(name="run7", directory=run, base="tiny"), registry).entry
    assert entry is not None
    assert entry["path"] == str(tiny_directory)


def test_the_commit_that_the_adapter_was_trained_on_comes_before_the_registered_one(
    watch: Watch, registry: Registry, adapter: Callable[..., Path]
) -> None:
    for name, revision in (("one", COMMIT), ("two", "f" * 40)):
        registry.add(name, {"hub": "lab/tiny", "revision": revision})
    folder = adapter(base_model_name_or_path="lab/tiny", revision=OTHER)
    assert (only(watch, registry).entry or {})["revision"] == OTHER
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "revision": "main"}))
    waits = str(only(watch, registry).waits)
    assert (
        "base_model_name_or_path: found 'lab/tiny', which is registered at several commits, as ['one', 'two']" in waits
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"base_model_name_or_path": "lab/unknown"},
            "found 'lab/unknown', which is neither registered nor a directory here; register the base with "
            "`persona-assets checkpoint add` and name it as base of the watch run7",
        ),
        ({"base_model_name_or_path": None}, "found None; expected the base model; register the base"),
        ({"base_model_name_or_path": "adapted"}, "found adapted, which has an adapter itself"),
        ({"base_model_name_or_path": "imported"}, "found imported, which is an imported run"),
    ],
)
def test_an_adapter_without_a_base_waits_and_says_what_to_do(
    watch: Watch,
    registry: Registry,
    adapter: Callable[..., Path],
    tiny_directory: Path,
    config: dict[str, Any],
    expected: str,
) -> None:
    registry.add("adapted", {"path": str(tiny_directory), "adapter": "/some/adapter"})
    registry.add("imported", {"imported": "imported/run"})
    folder = adapter(**config)
    arrival = only(watch, registry)
    assert (arrival.entry, arrival.stamp) == (None, "")
    assert f"{folder}/adapter_config.json: base_model_name_or_path: {expected}" in str(arrival.waits)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("absent", r"watch run7: base: found 'absent'; expected a registered checkpoint, one of \['adapted'\]"),
        ("adapted", "watch run7: base: found adapted, which has an adapter itself .*not supported: merge the first"),
    ],
)
def test_a_watchs_base_that_cannot_carry_an_adapter_is_named(
    run: Path, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path, base: str, expected: str
) -> None:
    registry.add("adapted", {"path": str(tiny_directory), "adapter": "/some/adapter"})
    adapter()
    arrival = only(Watch(name="run7", directory=run, base=base), registry)
    assert arrival.entry is None
    with pytest.raises(CheckpointError, match=expected):
        raise CheckpointError(arrival.waits)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text('{"r": '), "adapter_config.json cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "found list; expected a JSON object"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is not there"),
        (lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80"), "holds pickled weights"),
    ],
)
def test_a_broken_adapter_waits_with_the_reason(
    watch: Watch,
    registry: Registry,
    adapter: Callable[..., Path],
    tiny_directory: Path,
    damage: Callable[[Path], object],
    expected: str,
) -> None:
    folder = adapter(base_model_name_or_path=str(tiny_directory))
    damage(folder)
    arrival = only(watch, registry)
    assert arrival.entry is None
    assert expected in str(arrival.waits)
    assert str(folder) in str(arrival.waits)


def test_an_adapter_waits_for_its_local_base(
    watch: Watch, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path
) -> None:
    adapter(base_model_name_or_path=str(tiny_directory))
    (tiny_directory / "tokenizer.json").unlink()
    assert f"{tiny_directory}: no tokenizer" in str(only(watch, registry).waits)


def test_the_checkpoints_that_a_trainer_really_writes_can_be_measured(
    watch: Watch, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path, tmp_path: Path
) -> None:
    """From the folder to the weights in memory: what PEFT wrote is found, registered, identified and merged."""
    registry.add("tiny", {"path": str(tiny_directory)})
    folder = adapter("checkpoint-40", base_model_name_or_path=str(tiny_directory))
    (folder / "optimizer.pt").write_bytes(b"\x80")
    arrival = only(watch, registry)
    assert arrival.entry is not None, arrival.waits
    checkpoint, cache = registry.add(arrival.name, arrival.entry), DigestCache(tmp_path / "digests.json")
    found, base = identify(checkpoint, cache), identify(registry.get("tiny"), cache)
    assert found.weights == base.weights
    assert found.adapter is not None
    weight = "model.layers.0.self_attn.q_proj.weight"
    loaded = load_model(checkpoint, choose_hardware(Inference(device="cpu"))).model.state_dict()[weight]
    assert not torch.equal(loaded, load_file(tiny_directory / "model.safetensors")[weight])


def test_a_link_that_leads_nowhere_is_a_missing_file_and_harms_no_neighbour(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-10")
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-20"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "gone")
    first, second = arrivals_in(watch, registry)
    assert first.waits is None
    assert "model.safetensors is not there" in str(second.waits)
