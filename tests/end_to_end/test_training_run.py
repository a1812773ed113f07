"""A training run measured by itself: a real Trainer, the real daemon, a real webhook, and kill -9 in between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import psutil
import pytest
import yaml

from persona_assets.graph.history import latest_artefacts, latest_events
from persona_assets.graph.partitions import partition_key
from persona_assets.runs.attempts import CHECKPOINT_TAG, MEASURE, failure_of
from persona_assets.runs.measure_job import PART_OF
from persona_assets.study.files import load_study
from tests.end_to_end.conftest import CHECKPOINT, new_home

RUN = ["run7.checkpoint-2", "run7.checkpoint-4"]
OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class Webhook:
    """A server on loopback that keeps the lines that are posted to it."""

    def __init__(self):
        lines = self.lines = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                lines.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/"


class Machine:
    """An instance's folder, the daemon that works on it, and what a person would look at."""

    def __init__(self, home, folder, webhook):
        self.home, self.folder, self.webhook = home, folder, webhook
        self.instance = dg.DagsterInstance.from_config(str(home.root))
        self.daemon = None

    def environment(self):
        return os.environ | {
            "DAGSTER_HOME": str(self.home.root),
            "PERSONA_ASSETS_STUDY": str(self.folder / "study.yaml"),
            "PERSONA_ASSETS_AUTOMATE": "1",
            "PERSONA_ASSETS_WEBHOOK": self.webhook.address,
        }

    def start(self):
        command = [sys.executable, "-m", "dagster._daemon", "run", "-m", "persona_assets.definitions"]
        with (self.folder / "daemon.log").open("a") as log:
            self.daemon = subprocess.Popen(
                command, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, everything):
        """kill -9: the daemon alone, or with it the code server and the runs."""
        victims = [psutil.Process(self.daemon.pid)]
        if everything:
            victims += self.processes()
        for victim in victims:
            victim.kill()
        self.daemon.wait()

    def processes(self):
        """Whatever works on this instance."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DAGSTER_HOME") == str(self.home.root):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def train(self, model, output):
        script = [sys.executable, "examples/training_run.py", "--steps=4", "--save-every=2", "--learning-rate=1e-3"]
        options = [f"--model={model}", f"--output={output}", f"--study={self.folder / 'study.yaml'}"]
        return subprocess.Popen([*script, *options], env=self.environment(), stdout=subprocess.DEVNULL)

    def runs(self, checkpoint):
        tags = {CHECKPOINT_TAG: checkpoint}
        return self.instance.get_runs(dg.RunsFilter(job_name=MEASURE, tags=tags))[::-1]

    def wait_until(self, condition, what, seconds=300):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(0.2)
        pytest.fail(f"not within {seconds} s: {what}\n" + (self.folder / "daemon.log").read_text()[-4000:])

    def measured(self, checkpoint):
        return any(run.status == dg.DagsterRunStatus.SUCCESS for run in self.runs(checkpoint))

    def computed(self, asset, checkpoint, personas):
        """Persona → the run that computed it."""
        keys = [partition_key(checkpoint, persona) for persona in personas]
        artefacts = latest_artefacts(self.instance, self.home.store, asset, keys)
        return {key.split("|")[1]: artefact.measured["run"] for key, artefact in artefacts.items()}


@pytest.fixture
def machine(tmp_path, repository, tiny_directory):
    small = load_study().model_dump(mode="json")
    small["decoding"]["max_new_tokens"] = 6
    small["marker"]["training"] |= {"epochs": 1}
    small["marker"]["replies"] |= {"max_new_tokens": 8}
    small["marker"]["evaluation"] |= {"samples": 1, "max_new_tokens": 8}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(small, sort_keys=False))
    home = new_home(tmp_path / "home", repository, tiny_directory)
    machine = Machine(home, tmp_path, Webhook())
    yield machine
    for process in machine.processes():
        if process.pid != os.getpid():
            process.kill()
    machine.instance.dispose()


def test_every_saved_checkpoint_is_measured_once_whatever_is_killed(machine, tiny_directory):
    output = machine.folder / "run"
    output.mkdir()
    machine.home.watched.add("run7", {"directory": str(output), "base": CHECKPOINT})
    personas = list(load_study().personas)
    machine.start()

    # The daemon is killed while the base is measured; the run goes on, and another daemon starts no second one.
    machine.wait_until(
        lambda: any(run.status == dg.DagsterRunStatus.STARTED for run in machine.runs(CHECKPOINT)), "the base's run"
    )
    machine.kill(everything=False)
    machine.start()
    machine.wait_until(lambda: machine.measured(CHECKPOINT), "the base is measured")
    assert len(machine.runs(CHECKPOINT)) == 1

    # Two checkpoints are saved. In the middle of the first one's run everything dies, as when the power fails.
    training = machine.train(tiny_directory, output)
    assert training.wait(300) == 0
    first = machine.home.store.root / "logit_js"
    before = len(list(first.glob("*.json")))
    machine.wait_until(lambda: len(list(first.glob("*.json"))) > before, "one persona of the first checkpoint")
    machine.kill(everything=True)
    (killed,) = [
        run
        for name in RUN
        for run in machine.runs(name)
        if run.status not in OVER and run.tags.get("persona_assets/process")
    ]
    machine.start()
    machine.wait_until(lambda: all(machine.measured(name) for name in RUN), "both checkpoints are measured")

    interrupted = killed.tags[CHECKPOINT_TAG]
    (other,) = set(RUN) - {interrupted}
    assert [run.status.value for run in machine.runs(interrupted)] == ["FAILURE", "SUCCESS"]
    assert "its process was killed" in failure_of(machine.instance, killed.run_id)
    assert len(machine.runs(other)) == 1
    # What the killed run had finished was not computed again.
    children = machine.instance.get_runs(dg.RunsFilter(tags={PART_OF: killed.run_id}))
    made_before = {run.run_id for run in children}
    assert set(machine.computed("generations", interrupted, personas).values()) <= made_before
    assert made_before & set(machine.computed("logit_js", interrupted, personas).values())

    # Drift over the base and both checkpoints came by itself, ordered by the trainer's steps.
    machine.wait_until(lambda: drift_of(machine) == [CHECKPOINT, *RUN], "the drift of all three", 60)

    # A line for each report, and one for the run that died.
    machine.wait_until(lambda: len(machine.webhook.lines) == 4, f"four lines; {machine.webhook.lines}", 60)
    ready = sorted(line.partition(":")[0] for line in machine.webhook.lines if "is ready: http" in line)
    assert ready == sorted([CHECKPOINT, *RUN])
    (failed,) = [line for line in machine.webhook.lines if "is ready" not in line]
    assert failed.startswith(f"{interrupted}: failed (attempt 1): its process was killed")

    # The same weights under another name are recognised, and half a checkpoint waits with its reason in the tick.
    shutil.copytree(output / "checkpoint-4", output / "checkpoint-6")
    shutil.copytree(output / "checkpoint-4", output / "checkpoint-9")
    whole = (output / "checkpoint-9/adapter_model.safetensors").read_bytes()
    (output / "checkpoint-9/adapter_model.safetensors").write_bytes(whole[:-100])
    machine.wait_until(lambda: machine.measured("run7.checkpoint-6"), "the copy is looked at")
    event = latest_events(machine.instance, "model_checkpoint", ["run7.checkpoint-6"])["run7.checkpoint-6"]
    assert event.metadata["same_as"].value.startswith(f"same as **{RUN[1]}**")
    assert latest_events(machine.instance, "report", ["run7.checkpoint-6"]) == {}
    assert machine.runs("run7.checkpoint-9") == []
    assert any("checkpoint-9" in reason and "not a complete safetensors file" in reason for reason in ticks(machine))
    machine.daemon.send_signal(signal.SIGTERM)
    machine.daemon.wait(60)


def drift_of(machine):
    event = machine.instance.get_latest_materialization_event(dg.AssetKey("checkpoint_drift"))
    if event is None:
        return []
    table = event.asset_materialization.metadata["checkpoints"].value
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]


def ticks(machine):
    """What the sensor's ticks said, newest first."""
    (state,) = [each for each in machine.instance.all_instigator_state() if each.instigator_name == "new_checkpoints"]
    found = machine.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=20)
    return [tick.skip_reason or "" for tick in found]
