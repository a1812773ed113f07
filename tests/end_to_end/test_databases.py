"""Dagster's database goes away in the middle of a run: a real PostgreSQL server crashes, SQLite files are locked."""

import sqlite3
import time
from contextlib import ExitStack, closing, contextmanager

import dagster as dg
import pytest

from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY
from persona_assets.upkeep.doctor import examine
from tests.docs.reading import blocks
from tests.end_to_end.measuring import MEASURE, computed, let_go, started
from tests.end_to_end.postgres_server import postgres

ASSETS = ("generations", "logit_js", "centroids")


@pytest.fixture
def home(tmp_path, repository, tiny_directory):
    made = Home(tmp_path / "home")
    made.root.mkdir()
    (made.root / "dagster.yaml").write_text((repository / "dagster_home" / "dagster.yaml").read_text())
    made.registry.add("tiny", {"path": str(tiny_directory)})
    return made


def until(process, line):
    """What the process says up to a line with this in it."""
    said = ""
    for each in process.stdout:
        said += each
        if line in each:
            return said
    raise AssertionError(said)


def measured(environment):
    """How a whole run ended and what it said."""
    process = started(MEASURE, environment)
    let_go(process)
    said = process.communicate(timeout=300)[0]
    return process.returncode, said


def stored(home):
    """asset/fingerprint → which run computed it, with which bytes."""
    found = [artefact for asset in ASSETS for artefact in home.store.all(asset)]
    return {f"{each.asset}/{each.fingerprint}": (each.measured["run"], each.sha256) for each in found}


def require_whole(home, *outputs):
    """Every persona was computed once and is stored, every event is there, no run looks as if it were under way."""
    assert set(computed(*outputs).values()) == {1}
    assert len(stored(home)) == len(ASSETS) * len(STUDY.personas)
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        assert examine(instance, home, ["model_checkpoint", *ASSETS]) == []
        assert {run.status for run in instance.get_runs()} <= {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
        for asset in ASSETS:
            assert len(instance.get_materialized_partitions(dg.AssetKey(asset))) == len(STUDY.personas)


@pytest.mark.parametrize("long", [False, True], ids=["restarted", "away for long"])
def test_a_run_whose_postgresql_goes_away_goes_on_or_resumes(home, repository, monkeypatch, long):
    pytest.importorskip("pgserver")
    (storage,) = blocks(repository / "docs" / "explanation" / "scale.md", "yaml")
    settings = home.root / "dagster.yaml"
    settings.write_text(settings.read_text() + storage.text)
    with postgres() as server:
        monkeypatch.setenv("DATABASE_URL", server.url)
        environment = {"DAGSTER_HOME": str(home.root)}
        process = started(MEASURE, environment)
        let_go(process)
        said = [until(process, "generations 2/3")]
        server.crash()
        if long:
            said.append(process.communicate(timeout=300)[0])
            assert process.returncode == 1
            server.start()
        else:
            server.start()
            said.append(process.communicate(timeout=300)[0])
        if process.returncode:  # also where a statement was under way as the server crashed
            last = said[-1].strip().splitlines()[-1]
            assert last.startswith("DatabaseError: the instance's database failed: ")
            assert last.endswith("run the same command again when the database is available")
            kept = stored(home)
            assert len(kept) >= 2
            status, again = measured(environment)
            assert status == 0, again
            assert stored(home).items() >= kept.items()
            said.append(again)
        require_whole(home, "".join(said))


@contextmanager
def exclusively(*databases):
    with ExitStack() as locks:
        for file in databases:
            connection = locks.enter_context(closing(sqlite3.connect(file, isolation_level=None, timeout=60)))
            connection.execute("BEGIN EXCLUSIVE")
        yield


def test_a_run_waits_for_sqlite_databases_that_another_process_has_locked(home):
    process = started(MEASURE, {"DAGSTER_HOME": str(home.root)})
    let_go(process)
    said = until(process, "generations 2/3")
    (runs,) = home.root.rglob("runs.db")
    with exclusively(runs):
        with exclusively(*(file for file in home.root.rglob("*.db") if file != runs)):
            time.sleep(1)
        said += until(process, "logit_js 3/3")  # and now the run would like to write that it ended
        time.sleep(8)  # Dagster by itself would wait 5
    said += process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    require_whole(home, said)
