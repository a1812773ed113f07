"""A run that is killed loses the persona in flight and nothing else: real processes, a real SIGKILL, a tiny model."""

import json
import signal
import time

import pandas as pd
import yaml

from persona_assets.cli import INTERRUPTED
from persona_assets.study.files import load_study
from tests.commands import start
from tests.end_to_end.conftest import CHECKPOINT, new_home


def command(study, home):
    arguments = ["-m", "persona_assets.cli", "run", "--study", str(study), "--checkpoint", CHECKPOINT]
    return start(arguments, {"DAGSTER_HOME": str(home.root)})


def finished(home, asset):
    folder = home.root / "artefacts" / asset
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_a_source_killed_in_training_is_trained_again_and_finished_ones_are_kept(tmp_path, repository, tiny_directory):
    """Killed twice, in two ways; the third run trains what was in flight."""
    small = load_study().model_dump(mode="json")
    small["sources"] = ["villain", "comedian"]
    small["marker"]["training"] |= {"epochs": 1}
    small["marker"]["replies"] |= {"max_new_tokens": 8}
    small["marker"]["evaluation"] |= {"samples": 1, "max_new_tokens": 8}
    study = tmp_path / "two.yaml"
    study.write_text(yaml.safe_dump(small, sort_keys=False))
    home = new_home(tmp_path / "home", repository, tiny_directory)

    kept = {}
    for how in (signal.SIGTERM, signal.SIGKILL):
        killed, said = command(study, home), ""
        for line in killed.stdout:
            said += line
            if "comedian: step 3/" in line:
                break
        killed.send_signal(how)
        last, _ = killed.communicate(timeout=60)
        assert killed.returncode == (INTERRUPTED if how == signal.SIGTERM else -signal.SIGKILL), last
        if how == signal.SIGTERM:
            expected = "interrupted; finished results are stored, and the same command continues from there\n"
            assert last.endswith(expected)
            assert "Traceback" not in last
        assert ("villain: step" in said) == (kept == {})
        stored = finished(home, "marker_adapter")
        assert len(stored) == 1  # villain's; nothing of comedian's looks done
        assert kept in ({}, stored)
        kept = stored

    third = command(study, home)
    output, _ = third.communicate(timeout=300)
    assert third.returncode == 0, output
    assert "villain: step" not in output
    assert "comedian: step 8/8" in output
    after = finished(home, "marker_adapter")
    assert len(after) == 2
    assert {name: after[name] for name in kept} == kept
    assert len(finished(home, "marker_rates")) == 2


def test_a_killed_run_keeps_every_finished_persona(tmp_path, repository, tiny_directory):
    embedded = load_study("embedded").model_dump(mode="json")
    study = tmp_path / "eleven.yaml"
    shorter = {"name": "eleven", "questions": embedded["questions"][:1], "layers": [1, 2]}
    shorter |= {"decoding": {"max_new_tokens": 30}}  # so long that a kill falls into a persona
    # No source to train: the outcome is somebody else's counts.
    shorter |= {"sources": [], "marker": None, "training_questions": [], "leakage": "counts.csv"}
    (tmp_path / "counts.csv").write_text(
        "source,target,found,total\nvillain,villain,18,20\nvillain,comedian,7,20\nvillain,assistant,0,20\n"
    )
    study.write_text(yaml.safe_dump(embedded | shorter, sort_keys=False))
    home = new_home(tmp_path / "home", repository, tiny_directory)

    killed = command(study, home)
    deadline = time.monotonic() + 120
    while len(finished(home, "generations")) < 6 and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = finished(home, "generations")
    assert len(kept) == 6  # the seventh persona was in flight
    kept_runs = {record["measured"]["run"] for record in kept.values()}

    second = command(study, home)
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0, output
    after = finished(home, "generations")
    assert len(after) == 11
    assert {name: after[name] for name in kept} == kept
    computed = [name for name, record in after.items() if record["measured"]["run"] not in kept_runs]
    assert len(computed) == 5
    assert output.count("already stored") >= 6
    assert len(finished(home, "logit_js")) == 11
    assert "in the source's own replies: villain 18/20" in output
    (pair_table,) = (home.root / "artefacts" / "pair_table").glob("*.parquet")
    pairs = pd.read_parquet(pair_table).set_index(["source", "target"])
    assert pairs.leakage_rate.dropna().to_dict() == {("villain", "comedian"): 0.35, ("villain", "assistant"): 0.0}
