"""Checkpoints in a watched directory are accepted once complete; until then the scan states what is missing."""

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
from persona_assets.checkpoints.scan import FoundCheckpoint, scan_watch
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
    """Return a LoRA adapter for the tiny model as PEFT saves it, with non-zero weights."""
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
    """Return a function that puts an adapter with the given config fields into the watched directory."""

    def put(name: str = "checkpoint-10", **config: Any) -> Path:
        directory = Path(shutil.copytree(_lora, run / name))
        file = directory / "adapter_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
        return directory

    return put


def only(watch: Watch, registry: Registry) -> FoundCheckpoint:
    [candidate] = scan_watch(watch, registry)
    return candidate


def test_a_complete_model_is_accepted(watch: Watch, run: Path, registry: Registry, tiny_directory: Path) -> None:
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-500"))
    candidate = only(watch, registry)
    assert candidate.name == "run7.checkpoint-500"
    assert candidate.entry == {"path": str(folder), "series": "run7", "step": 500}
    assert candidate.problem is None
    checkpoint = registry.add(candidate.name, candidate.entry)
    assert stamp(checkpoint) == candidate.stamp
    assert scan_watch(watch, registry) == [candidate]  # still found after registration


def test_folders_are_sorted_by_training_step(watch: Watch, run: Path, registry: Registry) -> None:
    for name in ("checkpoint-final", "checkpoint-1000", "checkpoint-90", "checkpoint-best", "other-5"):
        (run / name).mkdir()
    (run / "checkpoint-best" / "trainer_state.json").write_text('{"global_step": 400}')
    (run / "checkpoint-7").write_text("a file")
    names = [candidate.name.removeprefix("run7.") for candidate in scan_watch(watch, registry)]
    assert names == ["checkpoint-90", "checkpoint-best", "checkpoint-1000", "checkpoint-final"]


def test_a_missing_directory_is_reported(watch: Watch, run: Path, registry: Registry) -> None:
    run.rmdir()
    with pytest.raises(CheckpointError, match=r"watch run7: directory: .*run-7 does not exist; expected the folder of"):
        scan_watch(watch, registry)


def truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def delete_a_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (delete_a_shard, "index.json names model-00002-of-00002.safetensors, which does not exist"),
        (truncate_weights, "model.safetensors is not a complete safetensors file"),
        (lambda folder: (folder / "config.json").unlink(), "config.json does not exist; the checkpoint is incomplete"),
        (lambda folder: (folder / "config.json").write_text('{"hid'), "config.json cannot be read as JSON"),
        (
            lambda folder: (folder / "config.json").write_text('{"text_config": [1]}'),
            "config.json: text_config: found [1]",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer found; expected tokenizer.json"),
        (lambda folder: (folder / "chat_template.jinja").write_bytes(b"\xe2\x82"), "cannot be read as text"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"\x80"), "contains pickled weights"),
        (lambda folder: [file.unlink() for file in folder.iterdir()], "contains no checkpoint files yet"),
    ],
)
def test_an_incomplete_model_is_reported_with_its_problem(
    watch: Watch,
    run: Path,
    registry: Registry,
    tiny_directory: Path,
    damage: Callable[[Path], object],
    expected: str,
) -> None:
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-500"))
    damage(folder)
    candidate = only(watch, registry)
    assert candidate.entry is None
    assert candidate.problem is not None
    assert expected in candidate.problem
    assert str(folder) in candidate.problem


def test_an_incomplete_checkpoint_does_not_block_the_others(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    for name in ("checkpoint-10", "checkpoint-20", "checkpoint-30"):
        shutil.copytree(tiny_directory, run / name)
    truncate_weights(run / "checkpoint-20")
    assert [candidate.problem is None for candidate in scan_watch(watch, registry)] == [True, False, True]


def test_the_stamp_changes_while_a_folder_is_being_written(
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
    assert only(watch, registry).problem is None
    assert only(watch, registry).stamp == stamps[-1]


def test_a_folder_whose_name_is_invalid_is_reported(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-5 (copy)")
    candidate = only(watch, registry)
    assert candidate.entry is None
    assert candidate.final
    assert f"{run}/checkpoint-5 (copy): 'run7.checkpoint-5 (copy)' is not a name; expected" in str(candidate.problem)


def test_names_of_folders_are_spelt_as_names_of_checkpoints(
    run: Path, registry: Registry, tiny_directory: Path
) -> None:
    shutil.copytree(tiny_directory, run / "Epoch=3-step=100")
    candidate = only(Watch(name="run7", directory=run, pattern="Epoch=*"), registry)
    assert (candidate.name, candidate.problem) == ("run7.epoch-3-step-100", None)


def test_two_watches_with_the_same_folder_names_do_not_collide(
    run: Path, registry: Registry, tiny_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-500")
    shutil.copytree(run, tmp_path / "run-8")
    watches = [Watch(name="run7", directory=run), Watch(name="run8", directory=tmp_path / "run-8")]
    for watch in watches:
        candidate = only(watch, registry)
        assert candidate.entry is not None
        registry.add(candidate.name, candidate.entry)
    assert registry.names() == ["run7.checkpoint-500", "run8.checkpoint-500"]
    assert [registry.get(name).series for name in registry.names()] == ["run7", "run8"]


def test_names_registered_for_another_directory_are_reported(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-500")
    registry.add("run7.checkpoint-500", {"path": str(tmp_path / "before" / "checkpoint-500")})
    problem = str(only(watch, registry).problem)
    assert f"{run}/checkpoint-500: run7.checkpoint-500 is already registered for {tmp_path}/before" in problem
    assert "expected an unused name" in problem


def test_an_edited_entry_still_matches_its_folder(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-500")
    registry.add("run7.checkpoint-500", {"path": "../run-7/checkpoint-500", "step": 501})
    assert only(watch, registry).problem is None


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
def test_an_adapter_gets_the_base_named_in_its_config(
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
    candidate = only(watch, registry)
    assert candidate.problem is None
    assert candidate.entry == {
        **{field: filled(value) for field, value in base.items()},
        "adapter": str(folder),
        "series": "run7",
        "step": 10,
    }
    assert stamp(registry.add(candidate.name, candidate.entry)) == candidate.stamp


def test_the_base_of_the_watch_overrides_that_of_the_adapter(
    run: Path, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path
) -> None:
    registry.add("tiny", {"path": str(tiny_directory)})
    adapter(base_model_name_or_path="somewhere/else")
    entry = only(Watch(name="run7", directory=run, base="tiny"), registry).entry
    assert entry is not None
    assert entry["path"] == str(tiny_directory)


def test_the_commit_the_adapter_was_trained_on_overrides_the_registered_one(
    watch: Watch, registry: Registry, adapter: Callable[..., Path]
) -> None:
    for name, revision in (("one", COMMIT), ("two", "f" * 40)):
        registry.add(name, {"hub": "lab/tiny", "revision": revision})
    folder = adapter(base_model_name_or_path="lab/tiny", revision=OTHER)
    assert (only(watch, registry).entry or {})["revision"] == OTHER
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "revision": "main"}))
    problem = str(only(watch, registry).problem)
    assert (
        "base_model_name_or_path: found 'lab/tiny', which is registered at several commits, as ['one', 'two']"
        in problem
    )


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {"base_model_name_or_path": "lab/unknown"},
            "found 'lab/unknown', which is neither registered nor a local directory; register the base with "
            "`persona-assets checkpoint add` and set it as the base of watch run7",
        ),
        ({"base_model_name_or_path": None}, "found None; expected the base model; register the base"),
        ({"base_model_name_or_path": "adapted"}, "found adapted, which itself has an adapter"),
        ({"base_model_name_or_path": "imported"}, "found imported, which is an imported run"),
    ],
)
def test_an_adapter_without_a_base_is_reported_with_what_to_do(
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
    candidate = only(watch, registry)
    assert (candidate.entry, candidate.stamp) == (None, "")
    assert f"{folder}/adapter_config.json: base_model_name_or_path: {expected}" in str(candidate.problem)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("absent", r"watch run7: base: found 'absent'; expected a registered checkpoint, one of \['adapted'\]"),
        ("adapted", "watch run7: base: found adapted, which itself has an adapter .*not supported; merge the first"),
    ],
)
def test_a_base_that_cannot_take_an_adapter_is_reported(
    run: Path, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path, base: str, expected: str
) -> None:
    registry.add("adapted", {"path": str(tiny_directory), "adapter": "/some/adapter"})
    adapter()
    candidate = only(Watch(name="run7", directory=run, base=base), registry)
    assert candidate.entry is None
    with pytest.raises(CheckpointError, match=expected):
        raise CheckpointError(candidate.problem)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "adapter_config.json").write_text('{"r": '), "adapter_config.json cannot be read"),
        (lambda folder: (folder / "adapter_config.json").write_text("[]"), "found list; expected a JSON object"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "adapter_model.safetensors does not exist"),
        (lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80"), "contains pickled weights"),
    ],
)
def test_a_broken_adapter_is_reported_with_its_problem(
    watch: Watch,
    registry: Registry,
    adapter: Callable[..., Path],
    tiny_directory: Path,
    damage: Callable[[Path], object],
    expected: str,
) -> None:
    folder = adapter(base_model_name_or_path=str(tiny_directory))
    damage(folder)
    candidate = only(watch, registry)
    assert candidate.entry is None
    assert expected in str(candidate.problem)
    assert str(folder) in str(candidate.problem)


def test_a_problem_of_the_local_base_is_reported_for_the_adapter(
    watch: Watch, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path
) -> None:
    adapter(base_model_name_or_path=str(tiny_directory))
    (tiny_directory / "tokenizer.json").unlink()
    assert f"{tiny_directory}: no tokenizer found" in str(only(watch, registry).problem)


def test_an_adapter_saved_by_peft_can_be_registered_and_loaded(
    watch: Watch, registry: Registry, adapter: Callable[..., Path], tiny_directory: Path, tmp_path: Path
) -> None:
    """Scan, register, identify and merge an adapter that PEFT saved."""
    registry.add("tiny", {"path": str(tiny_directory)})
    folder = adapter("checkpoint-40", base_model_name_or_path=str(tiny_directory))
    (folder / "optimizer.pt").write_bytes(b"\x80")
    candidate = only(watch, registry)
    assert candidate.entry is not None, candidate.problem
    checkpoint, cache = registry.add(candidate.name, candidate.entry), DigestCache(tmp_path / "digests.json")
    found, base = identify(checkpoint, cache), identify(registry.get("tiny"), cache)
    assert found.weights == base.weights
    assert found.adapter is not None
    weight = "model.layers.0.self_attn.q_proj.weight"
    loaded = load_model(checkpoint, choose_hardware(Inference(device="cpu"))).model.state_dict()[weight]
    assert not torch.equal(loaded, load_file(tiny_directory / "model.safetensors")[weight])


def test_a_broken_symbolic_link_is_a_missing_file_and_does_not_affect_other_folders(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    shutil.copytree(tiny_directory, run / "checkpoint-10")
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-20"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "gone")
    first, second = scan_watch(watch, registry)
    assert first.problem is None
    assert "model.safetensors does not exist" in str(second.problem)


def test_a_pattern_names_other_folders(run: Path, registry: Registry, tiny_directory: Path) -> None:
    for name in ("epoch_2", "epoch_10", "global_step_200/actor/huggingface"):
        shutil.copytree(tiny_directory, run / name)
    found = scan_watch(Watch(name="run7", directory=run, pattern="epoch_*"), registry)
    assert [(each.name, (each.entry or {})["step"]) for each in found] == [("run7.epoch_2", 2), ("run7.epoch_10", 10)]
    found = scan_watch(Watch(name="run7", directory=run, pattern="global_step_*/actor/huggingface"), registry)
    assert [each.name for each in found] == ["run7.global_step_200.actor.huggingface"]
    assert (found[0].entry or {})["step"] == 200


def test_other_folders_and_a_model_in_the_directory_itself_are_named(
    watch: Watch, run: Path, registry: Registry, tiny_directory: Path
) -> None:
    assert scan_watch(watch, registry) == []  # nothing was saved yet
    (run / "epoch_1").mkdir()
    with pytest.raises(CheckpointError, match=r"contains no checkpoint-\* yet; found epoch_1"):
        scan_watch(watch, registry)
    shutil.copytree(tiny_directory, run, dirs_exist_ok=True)
    with pytest.raises(CheckpointError, match=r"found epoch_1.*the model in the folder itself is not watched"):
        scan_watch(watch, registry)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("pytorch_model_fsdp_0/__0_0.distcp", r"FSDP's sharded training state .*FULL_STATE_DICT"),
        ("global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt", "DeepSpeed's sharded .*zero_to_fp32.py"),
    ],
)
def test_sharded_training_state_is_named_and_not_waited_for(
    watch: Watch, run: Path, registry: Registry, file: str, expected: str
) -> None:
    place = run / "checkpoint-5" / file
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    candidate = only(watch, registry)
    assert candidate.final
    with pytest.raises(CheckpointError, match=expected):
        raise CheckpointError(str(candidate.problem))


@pytest.mark.parametrize("missing", ["tokenizer.json", "chat_template.jinja"])
def test_the_base_of_the_watch_lends_its_tokenizer_and_template(
    run: Path, registry: Registry, tiny_directory: Path, tmp_path: Path, missing: str
) -> None:
    registry.add("tiny", {"path": str(tiny_directory)})
    folder = Path(shutil.copytree(tiny_directory, run / "checkpoint-5"))
    (folder / missing).unlink()
    assert "expected" in str(only(Watch(name="run7", directory=run), registry).problem)
    candidate = only(Watch(name="run7", directory=run, base="tiny"), registry)
    assert candidate.entry is not None, candidate.problem
    assert candidate.entry["tokenizer"] == str(tiny_directory)
    checkpoint, cache = registry.add(candidate.name, candidate.entry), DigestCache(tmp_path / "digests.json")
    found, base = identify(checkpoint, cache), identify(registry.get("tiny"), cache)
    assert (found.tokenizer, found.chat_template) == (base.tokenizer, base.chat_template)
    prompts = [
        load_model(each, choose_hardware(Inference(device="cpu"))).chat.prompt_ids("You help.", "Why?")
        for each in (checkpoint, registry.get("tiny"))
    ]
    assert prompts[0] == prompts[1]
