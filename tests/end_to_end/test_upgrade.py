"""Instances of earlier releases, kept for ever, are opened, read and gone on with by today's code."""

import re
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import dagster as dg
import pytest
import yaml

from persona_assets.cli.shared import open_instance
from persona_assets.definitions import defs
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import HEAVY_ASSETS, LIGHT_ASSETS
from persona_assets.graph.provenance import OF_SOURCES
from persona_assets.store.instance import InstanceError
from persona_assets.upkeep.doctor import examine
from tests import commands

RELEASES = sorted((Path(__file__).parents[1] / "fixtures" / "releases").iterdir())
# `marker_log_probs` came after 0.1.0; it is computed from what was stored.
HEAVY = {*HEAVY_ASSETS, *OF_SOURCES} - {"marker_log_probs"}
# Tables, figures and report as the job makes them, from whatever was materialised last.
COMPARE = """
import sys
from persona_assets import cli
from persona_assets.cli.shared import open_run
sys.argv = ["persona-assets", "compare"]

@cli.app.command()
def compare() -> None:
    session = open_run(None, "tiny")
    job = session.defs.resolve_job_def("compare_personas")
    assert job.execute_in_process(instance=session.instance, partition_key="tiny").success

cli.main()
"""


@pytest.fixture(params=RELEASES, ids=lambda release: release.name)
def home(request, tmp_path):
    """A release's instance, unpacked."""
    with tarfile.open(request.param / "instance.tar.xz") as archive:
        archive.extractall(tmp_path / "home", filter="data")
    return Home(tmp_path / "home")


def said(home, *command):
    """What today's code says to a command over the instance and its study."""
    environment = {"DAGSTER_HOME": str(home.root), "PERSONA_ASSETS_STUDY": str(home.root / "study.yaml")}
    done = commands.run(command, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_artefact_and_event_of_a_release_is_read(home):
    assets = sorted(folder.name for folder in home.store.root.iterdir())
    assert {*HEAVY, *LIGHT_ASSETS, "model_checkpoint"} <= {*assets}
    for asset in assets:
        stored = list(home.store.all(asset))
        assert stored, asset
        assert all(len(artefact.read()) for artefact in stored), asset
    graph = sorted(key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys())
    with dg.DagsterInstance.from_config(str(home.root)) as instance:
        assert examine(instance, home, graph) == []
        assert {each.status for each in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}


def test_a_release_is_gone_on_with_and_what_is_computed_again_is_said_why(home):
    made = {artefact.fingerprint for asset in HEAVY for artefact in home.store.all(asset)}
    command = ("-m", "persona_assets.cli", "run", "--checkpoint", "tiny")
    why = dict(re.findall(r"^out of date: (\w+): (.*)$", said(home, *command), re.MULTILINE))
    # Another machine, other libraries, or code that gives other numbers; else what is there is taken.
    assert all(re.match(r"environment\.|code was |upstream changed", why[asset]) for asset in HEAVY & {*why})
    after = {artefact.fingerprint for asset in HEAVY for artefact in home.store.all(asset)}
    assert made <= after
    assert (made < after) == bool(HEAVY & {*why})
    assert len(list(home.store.all("marker_log_probs"))) == 1
    assert "nothing to compute: everything was current" in said(home, *command)


def test_tables_and_report_of_a_release_are_made_anew_without_its_model(home):
    (home.root / "tiny" / "model.safetensors").unlink()
    before = {asset: len(list(home.store.all(asset))) for asset in (*HEAVY, *LIGHT_ASSETS)}
    study = home.root / "study.yaml"
    edited = yaml.safe_load(study.read_text()) | {"bootstrap": {"resamples": 100}}
    study.write_text(yaml.safe_dump(edited, sort_keys=False))
    said(home, "-c", COMPARE)
    after = {asset: len(list(home.store.all(asset))) for asset in (*HEAVY, *LIGHT_ASSETS)}
    changed = {asset for asset in after if after[asset] != before[asset]}
    assert {"logit_js_matrix", "pair_table", "figures", "report"} <= changed
    assert not changed & HEAVY


def test_databases_of_another_dagster_are_migrated_or_refused_with_a_sentence(home, monkeypatch, capsys):
    monkeypatch.setenv("DAGSTER_HOME", str(home.root))
    with open_instance() as instance:
        assert capsys.readouterr().out == ""
        instance.run_storage._alembic_downgrade("-1")  # as the Dagster before this one left it
        found, expected = instance.run_storage.alembic_version()
        assert found != expected
    with open_instance() as instance:
        assert f"written by another Dagster version; migrating them to {dg.__version__}" in capsys.readouterr().out
        assert instance.run_storage.alembic_version() == (expected, expected)
        assert len(instance.get_runs()) == 4
    (database,) = home.root.rglob("runs.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'feedfeedfeed'")
    with pytest.raises(InstanceError, match=r"by a newer Dagster version \(schema revision feedfeedfeed\)"):
        open_instance()
