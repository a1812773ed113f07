"""Dagster's page while the study's file is edited and the definitions are not reloaded, and how the page ends."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from persona_assets.graph.home import Home
from persona_assets.graph.jobs import COMPARE_CHECKPOINTS
from persona_assets.graph.partitions import STUDY, partition_key
from persona_assets.graph.processes import CHECKPOINT_TAG
from persona_assets.runs.attempts import failure_of
from tests.end_to_end.served import LAUNCH, LOCATION, REPOSITORY, serve, wait_until

CHECKPOINT = "tiny"
CHECKS = """
query ($assets: [AssetKeyInput!]) {
  assetNodes(assetKeys: $assets) { assetKey { path } assetChecksOrError { ... on AssetChecks { checks {
    name executionForLatestMaterialization { evaluation { success description } } } } } }
}"""
TICKS = """
query ($sensor: InstigationSelector!) {
  instigationStateOrError(instigationSelector: $sensor) { ... on InstigationState { ticks(limit: 1) { skipReason } } }
}"""
RUN = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status tags { key value } } } }"


@pytest.fixture(scope="module")
def page(measured_tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("edited")
    with serve(Home(shutil.copytree(measured_tiny, folder / "home")), STUDY, folder) as page:
        yield page


def edit(page, change):
    """Changes the study's file; the definitions stay as they are."""
    study = yaml.safe_load(page.study.read_text())
    change(study)
    page.study.write_text(yaml.safe_dump(study, sort_keys=False))


def study_checks(page, *assets):
    """Asset → description of its failed check `study_is_unchanged`."""
    nodes = page.query(CHECKS, assets=[{"path": [asset]} for asset in assets])["assetNodes"]
    found = {}
    for node in nodes:
        for check in node["assetChecksOrError"]["checks"]:
            execution = check["executionForLatestMaterialization"]
            if check["name"] == "study_is_unchanged" and execution and not execution["evaluation"]["success"]:
                found[node["assetKey"]["path"][0]] = execution["evaluation"]["description"]
    return found


def launch(page, job, **tags):
    """Launches a run and returns its id, status and tags once it is over."""
    launched = page.query(
        LAUNCH, job=job, location=LOCATION, repository=REPOSITORY, config={},
        tags=[{"key": key, "value": value} for key, value in tags.items()],
    )["launchRun"]  # fmt: skip
    run_id = launched["run"]["runId"]
    over = ("SUCCESS", "FAILURE", "CANCELED")
    wait_until(lambda: page.query(RUN, run=run_id)["runOrError"]["status"] in over, 120, f"run of {job}")
    run = page.query(RUN, run=run_id)["runOrError"]
    return run_id, run["status"], {tag["key"]: tag["value"] for tag in run["tags"]}


def test_an_edited_prompt_shows_without_a_reload(page):
    edit(page, lambda study: study["personas"]["villain"].update(prompt="You are a cruel tyrant."))
    tables = ("logit_js_matrix", "pair_table", "figures", "report")
    wait_until(lambda: set(study_checks(page, *tables)) == set(tables), 60, "the tables are marked")
    for description in study_checks(page, *tables).values():
        assert description == "out of date for tiny; changed in the study: prompt of villain"
    assert page.staleness(partition_key(CHECKPOINT, "villain"), ["generations"]) == {"generations": "STALE"}
    sensor = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION, "name": "study_and_registry"}
    (tick,) = page.query(TICKS, sensor=sensor)["instigationStateOrError"]["ticks"]
    assert tick["skipReason"].startswith("study small changed since the definitions were loaded: reload them")


def test_a_run_of_a_removed_persona_ends_in_a_sentence_and_is_listed_with_its_checkpoint(page):
    edit(page, lambda study: study["personas"].pop("comedian"))
    tags = {
        "dagster/asset_partition_range_start": partition_key(CHECKPOINT, "assistant"),
        "dagster/asset_partition_range_end": partition_key(CHECKPOINT, "comedian"),
    }
    run_id, status, found = launch(page, "measure_personas", **tags)
    assert status == "FAILURE"
    assert found[CHECKPOINT_TAG] == CHECKPOINT
    with page.instance() as instance:
        assert (
            "study small changed since the definitions were loaded: it has no persona comedian; reload"
            in failure_of(instance, run_id)
        )


def test_comparing_checkpoints_of_which_none_is_measured_says_so(page):
    edit(page, lambda study: study["questions"].append("Why?"))
    run_id, status, _ = launch(page, COMPARE_CHECKPOINTS)
    assert status == "FAILURE"
    with page.instance() as instance:
        assert "no checkpoint to compare: none is measured with study small as it is now" in failure_of(
            instance, run_id
        )


def test_a_page_started_by_a_script_is_quiet_and_ends_on_sigterm(tmp_path):
    """Shells start background commands of scripts with SIGINT ignored, and Dagster copies its handler to SIGTERM."""
    log = tmp_path / "log"
    command = [sys.executable, "-m", "persona_assets.cli", "ui", "--port", "0"]
    script = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path / "home")}
    with log.open("w") as written:
        server = subprocess.Popen(
            [sys.executable, "-c", script, *command],
            env=environment,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        wait_until(lambda: "Serving dagster-webserver on" in log.read_text(), 90, "the page is served")
        time.sleep(12)  # two rounds of the daemon
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
    lines = log.read_text().splitlines()
    assert not any("SupersessionWarning" in line for line in lines), lines
    assert len(lines) < 10, lines
