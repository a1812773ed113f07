"""Two processes at once: over a new instance, for the same checkpoint and personas. Real processes, a tiny model."""

import dagster as dg

from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY
from persona_assets.upkeep.doctor import examine
from tests.end_to_end.measuring import MEASURE, computed, let_go, started

# Imports what takes seconds, waits for a line, and then goes.
OPEN = """
import sys
from persona_assets.cli.shared import open_instance
import dagster
print("ready", flush=True)
sys.stdin.readline()
open_instance().get_runs_count()
"""
ASSETS = ("generations", "logit_js", "centroids")


def at_once(code, environment, number=2):
    """What so many processes said that were let go at the same moment; all of them must end well."""
    processes = [started(code, environment) for _ in range(number)]
    for process in processes:
        let_go(process)
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * number, "\n".join(said)
    return said


def test_a_new_instance_may_be_opened_by_several_processes_at_once(tmp_path):
    at_once(OPEN, {"DAGSTER_HOME": str(tmp_path / "home")}, number=4)
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        assert instance.get_runs_count() == 0
        assert instance.all_instigator_state() == []


def test_of_two_runs_at_once_one_computes_and_the_other_reuses(tmp_path, repository, tiny_directory):
    home = Home(tmp_path / "home")
    home.root.mkdir()
    # Two cards: with one the second run would wait for the first by Dagster's pool already.
    settings = (repository / "dagster_home" / "dagster.yaml").read_text()
    assert "default_limit: 1" in settings
    (home.root / "dagster.yaml").write_text(settings.replace("default_limit: 1", "default_limit: 2"))
    home.registry.add("tiny", {"path": str(tiny_directory)})
    said = at_once(MEASURE, {"DAGSTER_HOME": str(home.root)})
    assert computed(*said) == {(asset, persona): 1 for asset in ASSETS for persona in STUDY.personas}
    for asset in ASSETS:
        stored = list(home.store.all(asset))
        assert len(stored) == len(STUDY.personas)
        assert all(artefact.read() is not None for artefact in stored)
    assert not list(home.store.root.rglob("*.partial"))
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        runs = instance.get_runs(dg.RunsFilter(job_name="measure_personas"))
        assert [run.status for run in runs] == [dg.DagsterRunStatus.SUCCESS] * 2
        assert examine(instance, home, ["model_checkpoint", *ASSETS]) == []
