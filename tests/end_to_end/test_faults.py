"""What breaks in earnest, and what is left: a random model of three blocks, real jobs, real files, a real database."""

import os
import shutil
import sqlite3
import subprocess

import dagster as dg
import pytest
import yaml
from safetensors.torch import load_file, save_file

from persona_assets.definitions import build_definitions
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.partitions import partition_key
from persona_assets.inference import NonFiniteError
from persona_assets.runs.run import Run
from persona_assets.study import Study
from persona_assets.upkeep.doctor import examine
from tests import commands

KEY = '["logit_js"]'
MEASURED = ["identify_checkpoint", "measure_personas", "train_markers", "compare_personas"]


@pytest.fixture
def run(tiny_run):
    return tiny_run


def artefact(run, asset, persona=None):
    key = partition_key("tiny", persona) if persona else "tiny"
    return latest_artefacts(run.instance, run.home.store, asset, [key])[key]


def computed(run, asset):
    """Personas whose latest materialisation was computed, as against found in the store."""
    return {
        persona
        for persona in run.study.personas
        if (event := latest_event(run, asset, persona)) and event.metadata["computed"].value
    }


def latest_event(run, asset, persona):
    filter_ = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition_key("tiny", persona)])
    (record,) = run.instance.fetch_materializations(filter_, limit=1).records
    return record.asset_materialization


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def findings(run):
    assets = [key.to_user_string() for key in run.defs.resolve_asset_graph().get_all_asset_keys()]
    return sorted((finding.kind, finding.where) for finding in examine(run.instance, run.home, sorted(assets)))


def doctor(run, *options):
    study_file = run.home.root / "study.yaml"
    study_file.write_text(yaml.safe_dump(run.study.model_dump(mode="json"), sort_keys=False))
    command = ["-m", "persona_assets.cli", "doctor", "--study", str(study_file), "--checkpoint", "tiny"]
    done = commands.run([*command, *options], {"DAGSTER_HOME": str(run.home.root)})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_numbers_that_are_none_fail_their_persona_alone_and_say_where_they_began(run):
    weights = run.home.root / "tiny" / "model.safetensors"
    tensors = load_file(weights)
    # "½" is in nobody's prompt but this one's.
    personas = run.study.model_dump(mode="json")["personas"]
    personas["villain"]["prompt"] += " ½"
    odd = Study.model_validate(run.study.model_dump(mode="json") | {"personas": personas})
    from persona_assets.checkpoints import Checkpoint
    from persona_assets.inference import read_chat

    *_, token = read_chat(Checkpoint(name="tiny", path=weights.parent)).tokenizer("½")["input_ids"]
    tensors["model.embed_tokens.weight"][token] = float("nan")
    save_file(tensors, weights, {"format": "pt"})
    broken = Run(run.instance, build_definitions(odd, run.home), run.home, odd, "tiny")
    broken.prepare()
    broken.materialise_job("identify_checkpoint")
    with pytest.raises(NonFiniteError, match="1 of 3 failed, the others are stored: villain: ") as caught:
        broken.materialise_job("measure_personas")
    assert f"first non-finite output in the token embeddings, at position {len(prefix(weights.parent, odd))}" in str(
        caught.value
    )
    assert f"token {token} " in str(caught.value)
    others = [record for record in run.home.store.all("centroids") if record.made_from["checkpoint"] == digest(broken)]
    assert len(others) == 2


def prefix(directory, study):
    """Tokens before the one that is broken."""
    from persona_assets.checkpoints import Checkpoint
    from persona_assets.inference import read_chat

    chat = read_chat(Checkpoint(name="tiny", path=directory))
    ids = chat.prompt_ids(study.prompts["villain"], study.questions[0])
    *_, token = chat.tokenizer("½")["input_ids"]
    return ids[: ids.index(token)]


def digest(run):
    from persona_assets.runs.heavy import recorded_checkpoint

    return recorded_checkpoint(run.instance, run.home, "tiny")[1].digest


@pytest.mark.parametrize("asset", ["generations", "logit_js"])
@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:-7])])
def test_a_damaged_file_is_set_aside_and_made_again_to_the_same_bytes(run, asset, damage, caplog):
    path = artefact(run, asset, "villain").path
    good = path.read_bytes()
    damage(path)
    run.materialise()
    assert path.read_bytes() == good
    assert path.with_name(path.name + ".damaged").exists()
    assert computed(run, asset) == {"villain"}
    assert "is damaged (invalid record or wrong SHA-256)" in caplog.text


def test_rows_that_the_database_lost_are_recorded_again_and_nothing_is_computed(run):
    lost = partition_key("tiny", "villain")
    for database in run.home.root.rglob("*.db"):
        with sqlite3.connect(database) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if "event_logs" in tables:
                connection.execute(
                    "DELETE FROM event_logs WHERE partition = ? AND asset_key LIKE '%logit_js\"%'", [lost]
                )
    assert findings(run) == [("artefact without event", "logit_js")]
    assert run.materialise() == ["measure_personas"]
    assert latest_event(run, "logit_js", "villain").metadata["computed"].value is False
    assert findings(run) == []


def test_the_doctor_says_first_and_then_mends(run):
    villain, comedian = artefact(run, "logit_js", "villain"), artefact(run, "generations", "comedian")
    villain.path.with_name(f"{villain.fingerprint}.json").unlink()
    villain.path.unlink()
    flip_a_bit(comedian.path)
    left = run.home.store.root / "generations" / ".x.parquet.0123abcd.partial"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    said = doctor(run)
    assert f"event without artefact: logit_js {partition_key('tiny', 'villain')}" in said
    assert f"damaged: generations: {comedian.path.name}" in said
    assert "left over: generations: .x.parquet.0123abcd.partial" in said
    assert said.endswith("3 problem(s) found; use --mend to repair them\n")
    assert left.exists()
    assert "repaired 3 of 3" in doctor(run, "--mend")
    assert not left.exists()
    assert villain.path.exists()
    assert doctor(run) == "no problems found\n"


def test_a_clock_that_jumped_changes_nothing(run):
    for path in run.home.store.root.rglob("*"):
        os.utime(path, (4e9, 4e9))  # the year 2096
    assert run.materialise() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="a full and a read-only disk are made by mounting one, which root may")
@pytest.mark.parametrize(
    ("options", "found"), [("size=8k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_disk_that_takes_nothing_fails_the_run_and_what_was_there_stays(run, options, found):
    villain = artefact(run, "logit_js", "villain")
    villain.path.unlink()
    folder = villain.path.parent
    kept = shutil.move(folder, folder.with_name("kept"))
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("this machine mounts no tmpfs")
    try:
        with pytest.raises(OSError, match=found):
            run.materialise()
        assert not list(folder.rglob("*.json"))
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()
    shutil.move(kept, folder)
    run.materialise()
    assert computed(run, "logit_js") == {"villain"}
