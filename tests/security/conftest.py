"""A real `persona-assets ui` and a real run of the tiny model, both watched, with secrets in their environment."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.security.sockets import Listener, listeners, reached, tree

GUARD = Path(__file__).with_name("guard")
# What must turn up nowhere: random, so that finding one is no accident.
SECRETS = {
    "HF_TOKEN": f"hf_{secrets.token_hex(16)}",
    "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
    "OPENAI_API_KEY": f"sk-{secrets.token_hex(16)}",
    "PERSONA_ASSETS_WEBHOOK": f"http://127.0.0.1:9/services/{secrets.token_hex(12)}",
    "DATABASE_URL": f"postgresql://dagster:{secrets.token_hex(12)}@127.0.0.1:9/runs",
    "HF_ENDPOINT": f"http://reader:{secrets.token_hex(12)}@127.0.0.1:9",
    "PIP_INDEX_URL": f"http://reader:{secrets.token_hex(12)}@127.0.0.1:9/simple",
}
# What of each is the secret: a password within an address, the last part of a path, or all of it.
NEEDLES = [re.search(r"://[^/]*:([0-9a-f]{24})@|/([0-9a-f]{24})$|^([^:]+)$", value) for value in SECRETS.values()]
TOKENS = [next(part for part in found.groups() if part) for found in NEEDLES if found]


def leaked(*places: Path | str | bytes) -> list[str]:
    """Where one of the secrets stands: in text, in a file, or in any file below a folder."""
    found = []
    for place in places:
        files = [place] if not isinstance(place, Path) else [place] if place.is_file() else sorted(place.rglob("*"))
        for file in files:
            if isinstance(file, Path) and not file.is_file():
                continue
            content = file.read_bytes() if isinstance(file, Path) else file
            content = content.encode() if isinstance(content, str) else content
            found += [f"{file!s:.200}" for token in TOKENS if token.encode() in content]
    return found


def watched_environment(home: Path, audit: Path) -> dict[str, str]:
    """This process's environment with the secrets, an instance's folder, and the guard."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HF_HUB_OFFLINE", "DO_NOT_TRACK")}
    return kept | SECRETS | {
        "DAGSTER_HOME": str(home),
        "HF_HOME": str(home.parent / "hub"),
        "PYTHONPATH": str(GUARD),
        "PERSONA_ASSETS_AUDIT": str(audit),
    }  # fmt: skip


def audited(audit: Path) -> list[dict[str, Any]]:
    """What the guard wrote."""
    return [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The tests' study at layers that the tiny model has, with few tokens, replies and resamples."""
    study = yaml.safe_load((repository / "tests" / "small_study.yaml").read_text())
    study["layers"] = [0, 2]
    study["statistics"] = {"permutations": 100, "resamples": 100}
    study["marker"] |= {
        "training": {"epochs": 1}, "replies": {"max_new_tokens": 6}, "evaluation": {"samples": 2, "max_new_tokens": 4},
    }  # fmt: skip
    file = tmp_path_factory.mktemp("study") / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    return file


def without_network() -> list[str]:
    """What starts a program where there is no network, not even loopback; nothing where the system forbids it."""
    alone = ["unshare", "--map-root-user", "--net"]
    try:
        return alone if subprocess.run([*alone, "true"], capture_output=True).returncode == 0 else []
    except OSError:  # no such command
        return []


@dataclass
class Running:
    """A run that was started: where it writes, what it prints, and its process."""

    home: Path
    log: Path
    audit: Path
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="session")
def running(
    tmp_path_factory: pytest.TempPathFactory, tiny_study: Path, _tiny: Path, repository: Path
) -> Iterator[Running]:
    """The tiny model is measured and a marker trained into it, in a new instance's folder, without a network.

    Its umask allows nobody else anything. It goes on while the page starts.
    """
    folder = tmp_path_factory.mktemp("ran")
    home, log, audit = folder / "home", folder / "log", folder / "audit"
    program = [*without_network(), sys.executable, str(Path(__file__).with_name("traced.py"))]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*program, str(tiny_study), str(_tiny)],
            env=watched_environment(home, audit),
            cwd=repository,
            stdout=output,
            stderr=output,
            umask=0o077,
        )
    yield Running(home, log, audit, process)
    process.kill()
    process.wait()


@dataclass
class Served:
    """A page that is up, and what was seen of its processes while it was."""

    address: str
    home: Path
    temporary: Path
    log: Path
    audit: Path
    process: psutil.Process
    listeners: set[Listener] = field(default_factory=set)
    reached: set[str] = field(default_factory=set)
    commands: list[list[str]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)

    def look(self) -> None:
        self.listeners |= listeners(self.process.pid)
        self.reached |= reached(self.process.pid)
        for process in tree(self.process.pid):
            try:
                self.commands.append(process.cmdline())
                self.environments.append(process.environ())
            except psutil.NoSuchProcess:
                continue


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_study: Path, running: Running) -> Iterator[Served]:
    """`persona-assets ui --private` in a new instance's folder, up and with its definitions loaded."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "tmp").mkdir()
    home, log, audit = folder / "home", folder / "log", folder / "audit"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    options = ["--private", "--port", port, "--study", str(tiny_study)]
    command = [sys.executable, "-m", "persona_assets.cli", "ui", *options]
    with log.open("w") as output:
        server = psutil.Popen(
            command,
            env=watched_environment(home, audit) | {"TMPDIR": str(folder / "tmp")},
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0,  # one that allows everything
        )
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"Serving dagster-webserver on (http://\S+)", log.read_text())):
            assert server.is_running(), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        seen = Served(found[1], home, folder / "tmp", log, audit, server)
        seen.look()
        # Asking for the definitions starts whatever has to be started for them.
        body = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
        request = urllib.request.Request(f"{seen.address}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert b"generations" in answer.read()
        seen.look()
        yield seen
    finally:
        for process in tree(server.pid):
            process.kill()  # Dagster takes eight seconds to end by itself


@pytest.fixture(scope="session")
def ran(running: Running, served: Served) -> Running:
    """That run when it is over; the page started meanwhile."""
    assert running.process.wait(timeout=240) == 0, running.log.read_text()
    return running
