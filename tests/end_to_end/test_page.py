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

import pytest
import yaml

from persona_assets.orchestration.partitions import partition_key
from tests.end_to_end.conftest import CHECKPOINT

STALENESS = """
query ($partition: String!, $assets: [AssetKeyInput!]) {
  assetNodes(assetKeys: $assets) { assetKey { path } staleStatus(partition: $partition) }
}"""
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


def test_the_page_listens_on_loopback_only(page):
    port = int(re.search(r":(\d+)/", page.address).group(1))
    listening = subprocess.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True).stdout
    addresses = {
        fields[1].split(":")[0]
        for fields in map(str.split, listening.splitlines())
        if len(fields) > 3 and fields[3] == "0A" and fields[1].endswith(f":{port:04X}")
    }
    assert addresses == {"0100007F"}
