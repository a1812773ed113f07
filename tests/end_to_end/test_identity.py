"""One change at a time: what an answer depends on makes the right artefacts out of date, and nothing else does any."""

import json
import os
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file

from persona_assets.checkpoints import Identity, identify
from persona_assets.graph.jobs import HEAVY_ASSETS
from persona_assets.graph.partitions import split_key
from persona_assets.graph.provenance import OF_SOURCES
from persona_assets.graph.resources import Gpu
from persona_assets.inference import loading
from persona_assets.study import Persona
from persona_assets.study.settings import Decoding, Inference
from tests.end_to_end.conftest import with_study

HEAVY = {*HEAVY_ASSETS, *OF_SOURCES}
EVERYONE = {"assistant", "villain", "comedian"}


def out_of_date(run):
    """Heavy asset → the personas whose artefact is not what would be made today."""
    return {
        asset: {split_key(key)[1] for key, status in partitions.items() if status != "current"}
        for asset, partitions in run.staleness().items()
        if asset in HEAVY and set(partitions.values()) != {"current"}
    }


def all_of(*assets):
    return {asset: {"villain"} if asset in OF_SOURCES else EVERYONE for asset in assets}


def flip_a_weight(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name][0, 0] = -tensors[name][0, 0]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def rename_a_token(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["~ "] = content["model"]["vocab"].pop("~")
    file.write_text(json.dumps(content))


def change_the_template(folder):
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>assistant", "<|im_start|>Assistant"))


def widen_the_norm(folder):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"rms_norm_eps": 1e-3}))


@pytest.mark.parametrize("change", [flip_a_weight, rename_a_token, change_the_template, widen_the_norm])
def test_every_file_of_a_checkpoint_is_in_every_answer(tiny_run, change):
    assert out_of_date(tiny_run) == {}
    change(tiny_run.home.root / "tiny")
    assert out_of_date(tiny_run) == all_of(*HEAVY)
    assert tiny_run.staleness()["model_checkpoint"] == {"tiny": "out of date"}


def test_a_byte_of_an_adapter_is_another_checkpoint(tiny_run):
    (adapter,) = tiny_run.home.store.all("marker_adapter")
    tiny_run.home.registry.add("adapted", {"path": "tiny", "adapter": str(adapter.path)})
    checkpoint = tiny_run.home.registry.get("adapted")
    before = identify(checkpoint, tiny_run.home.digests)
    file = adapter.path / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    after = identify(checkpoint, tiny_run.home.digests)
    assert [name for name in Identity.model_fields if getattr(before, name) != getattr(after, name)] == ["adapter"]
    assert after.digest != before.digest


PROMPT = {"personas": {"villain": Persona(prompt="You are cruel.", category="fictional")}}
OF_VILLAIN = {
    "generations": {"villain"},
    "centroids": {"villain"},
    "logit_js": EVERYONE,
    **{asset: {"villain"} for asset in OF_SOURCES},
}


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (lambda study: {"personas": study.personas | PROMPT["personas"]}, OF_VILLAIN),
        (
            lambda study: {"questions": study.questions[::-1]},
            all_of("generations", "logit_js", "centroids", "marker_log_probs", "marker_rates"),
        ),
        (lambda _: {"decoding": Decoding(max_new_tokens=7)}, all_of("generations", "logit_js")),
        (lambda _: {"scored_slice": "response_and_turn_end"}, all_of("logit_js")),
        (lambda _: {"layers": (1,)}, all_of("centroids")),
        (lambda _: {"inference": Inference(dtype="bfloat16")}, all_of(*HEAVY)),
        (lambda _: {"inference": Inference(attention="eager")}, all_of(*HEAVY)),
        # What no answer depends on.
        (lambda _: {"inference": Inference(memory_share=0.5, timeout=60)}, {}),
        (lambda _: {"name": "another name"}, {}),
        (lambda study: {"personas": dict(reversed(study.personas.items()))}, {}),
        (lambda _: {"decoding": Decoding(max_new_tokens=8, seed=7)}, {}),  # greedy draws nothing
    ],
    ids=["prompt", "questions", "decoding", "slice", "layers", "dtype", "attention", "memory", "name", "order", "seed"],
)
def test_a_studys_line_is_in_the_answers_that_depend_on_it(tiny_run, update, expected):
    assert out_of_date(with_study(tiny_run, tiny_run.study.model_copy(update=update(tiny_run.study)))) == expected


def test_libraries_and_the_device_are_in_every_answer(tiny_run, monkeypatch):
    # The versions and the card of another machine are made up; that they come from this one is read elsewhere.
    known = loading.version
    monkeypatch.setattr(loading, "version", lambda name: "9.9" if name == "transformers" else known(name))
    assert out_of_date(tiny_run) == all_of(*HEAVY)
    why = tiny_run.stale_reasons()
    changed = f"environment.transformers was {known('transformers')!r}, is '9.9'"
    assert {asset: why[asset] for asset in HEAVY} == {
        **{asset: [changed] for asset in HEAVY},
        "logit_js": [changed, "upstream changed"],
        "marker_log_probs": [changed, "upstream changed"],
        "marker_rates": [changed, "upstream changed"],
    }
    assert why["logit_js_matrix"] == ["inputs.logit_js changed"]
    monkeypatch.undo()
    assert out_of_date(tiny_run) == {}
    assert tiny_run.stale_reasons() == {}
    hardware = Gpu().hardware
    monkeypatch.setattr(Gpu, "hardware", property(lambda _: replace(hardware, device_name="another card")))
    assert out_of_date(tiny_run) == all_of(*HEAVY)


def test_names_of_files_times_and_comments_are_in_none(tiny_run, repository):
    root = tiny_run.home.root
    (root / "tiny").rename(root / "elsewhere")
    registry = root / "checkpoints.yaml"
    registry.write_text("# a comment\n" + registry.read_text().replace("path: tiny", "path: elsewhere"))
    (root / "elsewhere" / "README.md").write_text("nothing that is read")
    for file in (root / "elsewhere").iterdir():
        os.utime(file, (1e9, 1e9))
    assert out_of_date(tiny_run) == {}
    assert tiny_run.materialise() == []


def test_the_same_study_in_a_new_instance_gives_the_same_bytes(tiny_run, measured_tiny, tmp_path_factory, repository):
    """Every artefact but the report, which says when and how long."""
    import shutil

    import dagster as dg

    from persona_assets.graph.home import Home
    from tests.end_to_end.conftest import tiny_run_of

    root = tmp_path_factory.mktemp("again") / "home"
    root.mkdir()
    shutil.copy(repository / "dagster_home" / "dagster.yaml", root)
    shutil.copytree(measured_tiny / "tiny", root / "tiny")
    Home(root).registry.add("tiny", {"path": "tiny"})
    with dg.DagsterInstance.from_config(str(root)) as instance:
        again = tiny_run_of(root, instance)
        again.prepare()
        again.materialise()
    assert stored(again.home.store) == stored(tiny_run.home.store)


def stored(store):
    assets = [path.name for path in store.root.iterdir() if path.name != "report"]
    found = {f"{each.asset}/{each.fingerprint}": each.sha256 for name in assets for each in store.all(name)}
    assert len(found) > 15
    return found
