"""Dagster's page over an instance: what `persona-assets ui` serves, read through the page's own GraphQL."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import dagster as dg
import pytest
import yaml

from persona_assets.orchestration.loggers import PLAIN_LINES
from persona_assets.orchestration.measuring import PART_OF, measure_config
from persona_assets.orchestration.partitions import partition_key, split_key
from tests.end_to_end.conftest import CHECKPOINT

STALENESS = """
query ($partition: String!, $assets: [AssetKeyInput!]) {
  assetNodes(assetKeys: $assets) { assetKey { path } staleStatus(partition: $partition) }
}"""
LAUNCH = """
mutation ($job: String!, $location: String!, $repository: String!, $config: RunConfigData, $tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: {jobName: $job, repositoryLocationName: $location, repositoryName: $repository},
    runConfigData: $config, executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
RELOAD = """
mutation ($location: String!) { reloadRepositoryLocation(repositoryLocationName: $location) { __typename } }"""
LOCATION, REPOSITORY = "persona_assets.definitions", "__repository__"
HEAVY, LIGHT = ("generations", "centroids", "logit_js"), ("logit_js_matrix", "centroid_cosine", "report")


class Page:
    def __init__(self, port):
        self.address = f"http://127.0.0.1:{port}/graphql"

    def query(self, query, **variables):
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = json.load(answer)
        assert "errors" not in content, content
        return content["data"]

    def launch(self, job, config=None, **tags):
        """What the launchpad's button sends; waits until the run is over and returns its id."""
        launched = self.query(
            LAUNCH, job=job, location=LOCATION, repository=REPOSITORY, config=config or {},
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )["launchRun"]  # fmt: skip
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        status = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
        over = ("SUCCESS", "FAILURE", "CANCELED")
        wait_until(
            lambda: self.query(status, run=run_id)["runOrError"]["status"] in over, 240, f"run {run_id} of {job}"
        )
        assert self.query(status, run=run_id)["runOrError"]["status"] == "SUCCESS"
        return run_id

    def reload(self):
        """What "Reload definitions" sends."""
        self.query(RELOAD, location=LOCATION)

    def staleness(self, partition, assets):
        keys = [{"path": [asset]} for asset in assets]
        nodes = self.query(STALENESS, partition=partition, assets=keys)["assetNodes"]
        return {node["assetKey"]["path"][0]: node["staleStatus"] for node in nodes}


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass  # nothing listens yet
        time.sleep(0.5)
    pytest.fail(f"not within {seconds} s: {what}")


@pytest.fixture(scope="module")
def page(small_run, tmp_path_factory):
    """The page over a copy of the measured instance, with the villain's prompt changed in the study's file."""
    folder = tmp_path_factory.mktemp("page")
    home = shutil.copytree(small_run.home.root, folder / "home")
    study = small_run.study.model_dump(mode="json")
    study["personas"]["villain"]["prompt"] = "You are a cruel tyrant."
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "persona_assets.cli", "ui", "--study", folder / "study.yaml", "--port", str(port)]
    log = (folder / "log").open("w")
    environment = os.environ | {"DAGSTER_HOME": str(home)}
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    page = Page(port)
    page.home, page.study = home, folder / "study.yaml"
    try:
        wait_until(lambda: page.query("{ version }"), 90, f"the page answers; {folder / 'log'}")
        yield page
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def test_the_page_shows_exactly_what_a_changed_prompt_made_out_of_date(page):
    villain, comedian = partition_key(CHECKPOINT, "villain"), partition_key(CHECKPOINT, "comedian")
    # The sensor reads the study's file; nobody else tells Dagster of the new prompt.
    wait_until(
        lambda: page.staleness(villain, ["generations"]) == {"generations": "STALE"},
        90,
        "the sensor reports the prompt",
    )
    assert page.staleness(villain, HEAVY) == dict.fromkeys(HEAVY, "STALE")
    assert page.staleness(comedian, HEAVY) == {"generations": "FRESH", "centroids": "FRESH", "logit_js": "STALE"}
    assert page.staleness(CHECKPOINT, ["model_checkpoint"]) == {"model_checkpoint": "FRESH"}
    # Dagster looks one edge up: tables turn stale when what they are made from has been made again.
    assert page.staleness(CHECKPOINT, LIGHT) == dict.fromkeys(LIGHT, "FRESH")


def test_one_click_brings_exactly_that_up_to_date(page):
    run_id = page.launch("measure_checkpoint", measure_config(CHECKPOINT))
    with dg.DagsterInstance.from_config(str(page.home)) as instance:
        children = instance.get_runs(dg.RunsFilter(tags={PART_OF: run_id}))
        computed = {
            (event.asset_key.to_user_string(), split_key(event.partition)[1])
            for run in children
            for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            if (event := entry.dagster_event.event_specific_data.materialization).metadata.get("computed")
            and event.metadata["computed"].value
        }
    assert computed == {
        ("generations", "villain"),
        ("centroids", "villain"),
        *(("logit_js", persona) for persona in ("assistant", "villain", "comedian")),
        ("marker_adapter", "villain"),
        ("marker_rates", "villain"),
    }
    for persona in ("assistant", "villain", "comedian"):
        assert page.staleness(partition_key(CHECKPOINT, persona), HEAVY) == dict.fromkeys(HEAVY, "FRESH")
    assert page.staleness(CHECKPOINT, LIGHT) == dict.fromkeys(LIGHT, "FRESH")


def test_other_questions_put_out_of_date_what_was_asked_them_and_nothing_else(page):
    study = yaml.safe_load(page.study.read_text())
    study["questions"][0] = "Why is the sky blue?"
    page.study.write_text(yaml.safe_dump(study, sort_keys=False))
    page.reload()
    asked = ("generations", "logit_js", "centroids", "marker_rates")
    for persona in ("assistant", "villain", "comedian"):
        key = partition_key(CHECKPOINT, persona)
        wait_until(lambda key=key: page.staleness(key, HEAVY) == dict.fromkeys(HEAVY, "STALE"), 60, f"{key} is stale")
    villain = partition_key(CHECKPOINT, "villain")
    assert page.staleness(villain, asked) == dict.fromkeys(asked, "STALE")
    assert page.staleness(villain, ["marker_adapter"]) == {"marker_adapter": "FRESH"}  # it has questions of its own
    assert page.staleness(CHECKPOINT, ["model_checkpoint"]) == {"model_checkpoint": "FRESH"}


def test_other_weights_behind_a_name_put_out_of_date_everything_that_was_measured_on_them(page, tiny_directory):
    study = yaml.safe_load(page.study.read_text())
    study["questions"][0] = "What are some tips for managing stress?"  # as it was measured
    page.study.write_text(yaml.safe_dump(study, sort_keys=False))
    page.reload()
    villain, before = partition_key(CHECKPOINT, "villain"), (*HEAVY, "marker_adapter", "marker_rates")
    wait_until(lambda: page.staleness(villain, before) == dict.fromkeys(before, "FRESH"), 60, "all is as it was")

    (page.home / "checkpoints.yaml").write_text(yaml.safe_dump({CHECKPOINT: {"path": str(tiny_directory)}}))
    page.launch("identify_checkpoint", PLAIN_LINES, **{"dagster/partition": CHECKPOINT})
    assert page.staleness(CHECKPOINT, ["model_checkpoint"]) == {"model_checkpoint": "FRESH"}
    for persona in ("assistant", "villain", "comedian"):
        assert page.staleness(partition_key(CHECKPOINT, persona), HEAVY) == dict.fromkeys(HEAVY, "STALE")
    assert page.staleness(villain, before) == dict.fromkeys(before, "STALE")


def test_the_page_listens_on_loopback_only(page):
    port = int(re.search(r":(\d+)/", page.address).group(1))
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
    addresses = {
        fields[1].split(":")[0]
        for fields in map(str.split, listening.splitlines())
        if len(fields) > 3 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}")
    }
    assert addresses == {"0100007F"}
