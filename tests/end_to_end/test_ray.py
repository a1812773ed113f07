"""A run whose personas are made by Ray's actors, on a real cluster of two nodes of this host.

Its events are in a real PostgreSQL, and its artefacts are shared through a server that speaks S3.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pytest

from persona_assets.graph.jobs import HEAVY_ASSETS
from persona_assets.graph.resources import WORKERS
from tests.end_to_end.conftest import emptied, heavy_files, tiny_run_of
from tests.end_to_end.postgres_server import postgres
from tests.on_loopback import UNSHARE, why_not

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def measured(measured_tiny: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> dict[str, Any]:
    """What a process says that measured the small study over a cluster: see ray_cluster.py."""
    folder = tmp_path_factory.mktemp("ray")
    root, out = shutil.copytree(measured_tiny, folder / "home"), folder / "out.json"
    with dg.DagsterInstance.from_config(str(root)) as instance:
        run = tiny_run_of(root, instance)
        alone = {name: hashlib.sha256(content).hexdigest() for name, content in heavy_files(run).items()}
        emptied(run)
    with (root / "dagster.yaml").open("a") as settings:
        settings.write((repository / "deploy" / "ray" / "postgres.yaml").read_text())
    path = os.pathsep.join(map(str, [repository, *sys.path]))
    command = [
        *UNSHARE,
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        "-m",
        "tests.end_to_end.ray_cluster",
        str(root),
        str(out),
    ]
    with TemporaryDirectory(prefix="ray") as session, postgres() as server:  # a short path, for the sockets in it
        environment = os.environ | {WORKERS: "ray", "PYTHONPATH": path, "RAY_TMPDIR": session}
        environment["DATABASE_URL"] = server.url_of_socket
        done = subprocess.run(command, env=environment, cwd=repository, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(out.read_text())
    return {**found, "alone": alone}


def heavy_only(files: dict[str, str]) -> dict[str, str]:
    return {name: digest for name, digest in files.items() if name.partition("/")[0] in HEAVY_ASSETS}


def test_the_bytes_are_those_of_a_single_process(measured: dict[str, Any]) -> None:
    of_the_base = ("base_replies", "base_log_probs")
    alone = {name: digest for name, digest in measured["alone"].items() if not name.startswith(of_the_base)}
    assert measured["joined"]["files"] == alone
    assert len(heavy_only(alone)) == 9


def test_a_node_that_joins_is_used(measured: dict[str, Any]) -> None:
    taken = measured["joined"]["taken"]
    assert len({worker for *_, worker in taken}) == 2
    assert len({worker for stage, _, worker in taken if stage == "generations"}) == 2
    assert Counter((stage, persona) for stage, persona, _ in taken).most_common(1)[0][1] == 1
    assert len([line for line in measured["joined"]["lines"] if "loading tiny on" in line]) >= 2


def test_another_host_takes_from_s3_what_this_one_computed(measured: dict[str, Any]) -> None:
    assert measured["storage"].startswith("dagster_postgres")
    elsewhere, joined = measured["elsewhere"], measured["joined"]["files"]
    assert elsewhere["measured again"] is False
    assert elsewhere["compared"] is True
    assert not elsewhere["taken"]
    assert heavy_only(elsewhere["files"]).items() <= joined.items()
    assert {name.partition("/")[0] for name in elsewhere["files"]} >= {"logit_js", "centroids", "marker_rates"}


@pytest.mark.parametrize("what", ["killed", "taken away"])
def test_an_actor_or_a_node_that_is_lost_leaves_its_persona_to_the_other(measured: dict[str, Any], what: str) -> None:
    lost = measured[what]
    (death,) = [line for line in lost["lines"] if " died: " in line and "reassigning " in line]
    persona = death.rpartition("reassigning ")[2]
    counted = Counter((stage, persona) for stage, persona, _ in lost["taken"])
    twice = [(stage, persona) for (stage, persona), count in counted.items() if count > 1]
    assert [each for _, each in twice] == [persona]
    assert len(counted) == 9
    assert heavy_only(lost["files"]) == heavy_only(measured["alone"])
    for asset in HEAVY_ASSETS:
        assert len([line for line in lost["lines"] if line.startswith(f"{asset} ") and " tokens in " in line]) == 3
