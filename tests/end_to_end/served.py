"""Dagster's page over an instance, as `persona-assets ui` serves it, with what a test asks of it through GraphQL."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from persona_assets.graph.home import Home
from persona_assets.study import Study

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
LATEST_RUN = "{ runsOrError(limit: 1) { ... on Runs { results { runId status } } } }"
LOCATION, REPOSITORY = "persona_assets.definitions", "__repository__"
OVER = ("SUCCESS", "FAILURE", "CANCELED")


class Page:
    """What a browser sends, without the browser.

    Attributes:
        home, study: the instance that is served, and the study's file, which tests edit as a person would.
    """

    def __init__(self, port: int, home: Home, study: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.home, self.study = home, study

    def query(self, query: str, **variables: Any) -> Any:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            content = json.load(answer)
        assert "errors" not in content, content
        return content["data"]

    def launch(self, job: str, config: Any = None, **tags: str) -> str:
        """What the launchpad's button sends; waits until the run is over and returns its id."""
        launched = self.query(
            LAUNCH, job=job, location=LOCATION, repository=REPOSITORY, config=config or {},
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )["launchRun"]  # fmt: skip
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id = launched["run"]["runId"]
        status = "query ($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"
        wait_until(
            lambda: self.query(status, run=run_id)["runOrError"]["status"] in OVER, 240, f"run {run_id} of {job}"
        )
        assert self.query(status, run=run_id)["runOrError"]["status"] == "SUCCESS"
        return str(run_id)

    def instance(self) -> AbstractContextManager[dg.DagsterInstance]:
        """The instance that the page serves."""
        return dg.DagsterInstance.from_config(str(self.home.root))

    def latest_run(self) -> dict[str, str]:
        """Id and status of the run that was launched last."""
        run: dict[str, str] = self.query(LATEST_RUN)["runsOrError"]["results"][0]
        return run

    def edit_study(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Changes the study's file and reloads the definitions, as a person does."""
        study = yaml.safe_load(self.study.read_text())
        edit(study)
        self.study.write_text(yaml.safe_dump(study, sort_keys=False))
        self.query(RELOAD, location=LOCATION)

    def staleness(self, partition: str, assets: Sequence[str]) -> dict[str, str]:
        keys = [{"path": [asset]} for asset in assets]
        nodes = self.query(STALENESS, partition=partition, assets=keys)["assetNodes"]
        return {node["assetKey"]["path"][0]: node["staleStatus"] for node in nodes}


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass  # nothing listens yet
        time.sleep(0.2)
    pytest.fail(f"not within {seconds} s: {what}")


@contextmanager
def serve(home: Home, study: Study, folder: Path) -> Iterator[Page]:
    """The page over an instance, with a study's file of its own in `folder`; the server's log is there too."""
    file, log = folder / "study.yaml", folder / "log"
    file.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "persona_assets.cli", "ui", "--study", str(file), "--port", str(port)]
    environment = os.environ | {"DAGSTER_HOME": str(home.root)}
    with log.open("w") as written:
        server = subprocess.Popen(command, env=environment, stdout=written, stderr=written, start_new_session=True)
    page = Page(port, home, file)
    try:
        wait_until(lambda: bool(page.query("{ version }")), 90, f"the page answers; {log}")
        yield page
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(3)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
