"""Secrets in the environment turn up in nothing that is printed, logged, stored, posted or seen by others."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest

from persona_assets import cli
from persona_assets.automation import notifying
from persona_assets.files.redaction import redact
from persona_assets.graph.loggers import terminal
from persona_assets.inference.vllm.environment import worker_environment
from persona_assets.runs.attempts import CHECKPOINT_TAG, MEASURE
from tests.security.conftest import SECRETS, TOKENS, Running, Served, leaked


def test_the_search_finds_what_it_looks_for(tmp_path: Path) -> None:
    assert len(TOKENS) == len(SECRETS) == 7
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "file").write_bytes(b"\0" + TOKENS[3].encode())
    assert leaked(tmp_path) == [str(tmp_path / "below" / "file")]
    assert len(leaked(SECRETS["DATABASE_URL"])) == 1


def test_a_run_writes_none(ran: Running) -> None:
    assert leaked(ran.log, ran.home) == []
    assert len(list(ran.home.rglob("*.json"))) > 10  # that there was something to look through


def test_the_page_prints_writes_and_answers_none(served: Served) -> None:
    assert leaked(served.log, served.home) == []


def test_none_stands_on_a_command_line(served: Served) -> None:
    assert len(served.commands) > 3
    assert leaked(*(" ".join(command) for command in served.commands)) == []


def test_a_variable_that_dagsters_settings_name_is_not_put_on_command_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster hands its settings to its processes on their command lines: what stands in them itself is told."""
    monkeypatch.setenv("SECRET_FOLDER", str(tmp_path / TOKENS[0]))
    module = "module: dagster._core.storage.local_compute_log_manager\n  class: LocalComputeLogManager\n"
    (tmp_path / "dagster.yaml").write_text(f"compute_logs:\n  {module}  config: {{base_dir: {{env: SECRET_FOLDER}}}}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        handed_on = repr(instance.get_ref())
    assert "SECRET_FOLDER" in handed_on
    assert leaked(handed_on) == []


@pytest.mark.parametrize("arguments", [["study", "check"], ["import", "published-run", "--as", "x"]])
def test_a_command_that_fails_prints_none(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (SECRETS | {"DAGSTER_HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    # A path that was made of a secret, by a script that takes the wrong variable.
    monkeypatch.setattr(sys, "argv", ["persona-assets", *arguments, f"/no/{SECRETS['HF_TOKEN']}"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = f"{ended.value.code} {capsys.readouterr()}"
    assert "<HF_TOKEN>" in said
    assert leaked(said, tmp_path) == []


def test_a_hub_that_does_not_answer_is_named_without_its_password(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "watched.yaml").write_text("theirs: {hub: somebody/model}\n")
    done = subprocess.run(
        [sys.executable, "-m", "persona_assets.cli", "watch", "list"],
        env=os.environ | SECRETS | {"DAGSTER_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"},
        cwd=repository,
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert "could not be looked up at http://<password>@127.0.0.1:9" in said
    assert leaked(said, tmp_path) == []


# What the hub's library does when an address does not answer, and a failure that nobody foresaw.
OTHERS = """
import logging, os, sys
from persona_assets import cli
from persona_assets.files.redaction import redact_hub_logs
redact_hub_logs()
logging.getLogger("huggingface_hub.utils._http").warning("thrown while requesting HEAD %s", os.environ["HF_ENDPOINT"])
def fail(): raise OSError(f"{os.environ['HF_TOKEN']} was refused by {os.environ['DATABASE_URL']}")
cli.app = fail
cli.main()
"""


def test_libraries_warnings_and_tracebacks_tell_none(repository: Path) -> None:
    environment = os.environ | SECRETS
    done = subprocess.run(
        [sys.executable, "-c", OTHERS], env=environment, cwd=repository, capture_output=True, text=True
    )
    assert "thrown while requesting HEAD http://<password>@127.0.0.1:9" in done.stderr
    assert "OSError: <HF_TOKEN> was refused by postgresql://<password>@127.0.0.1:9/runs" in done.stderr
    assert leaked(done.stderr) == []


def test_what_runs_log_tells_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    logger = terminal(dg.build_init_logger_context())
    logger.info("loading with %s", SECRETS["HF_TOKEN"])
    assert capsys.readouterr().err.endswith("loading with <HF_TOKEN>\n")


def test_what_is_posted_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRETS["AWS_SECRET_ACCESS_KEY"])
    monkeypatch.setenv(notifying.WEBHOOK, f"http://127.0.0.1:{server.server_port}/services/secret")

    @dg.op
    def fetch() -> None:
        raise RuntimeError(f"{SECRETS['AWS_SECRET_ACCESS_KEY']} was refused by {SECRETS['DATABASE_URL']}")

    @dg.job(name=MEASURE)
    def measure() -> None:
        fetch()

    _, failed = notifying.build_notifiers(measure)
    with dg.instance_for_test() as instance:
        result = measure.execute_in_process(instance=instance, tags={CHECKPOINT_TAG: "mine"}, raise_on_error=False)
        failed(
            dg.build_run_status_sensor_context(
                sensor_name="measurement_failed",
                dagster_event=result.get_run_failure_event(),
                dagster_instance=instance,
                dagster_run=result.dagster_run,
            )
        )
    server.shutdown()
    server.server_close()
    (line,) = received
    assert "<AWS_SECRET_ACCESS_KEY> was refused by postgresql://<password>@127.0.0.1:9/runs" in line["text"]
    assert leaked(line["text"]) == []


def test_vllm_is_given_none() -> None:
    given = worker_environment(SECRETS | {"PATH": "/bin", "TOKENIZERS_PARALLELISM": "false"})
    assert leaked(*given.values()) == []
    assert (given["PATH"], given["TOKENIZERS_PARALLELISM"]) == ("/bin", "false")


def test_ordinary_text_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_KEY", "1")
    for text in ("1 of 11 at https://example.org:8080/a@b", "mail me@example.org: yes", "step 1: key: value @ 3"):
        assert redact(text) == text
