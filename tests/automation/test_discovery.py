"""Scans of watched locations register checkpoints and request runs, over a sequence of ticks.

Runs are recorded in a real instance but not executed; the end-to-end tests execute them with the real daemon.
"""

import json
import shutil
import time

import dagster as dg
import pytest

from persona_assets.automation.discovery import MEASURED_CHECK, STUCK, Discovery
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT, STUDY
from persona_assets.runs.attempts import ATTEMPT_TAG, CHECKPOINT_TAG, MEASURE, STAMP_TAG, run_tags


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "run").mkdir()
    home = Home(tmp_path / "home")
    home.watched.add("run7", {"directory": str(tmp_path / "run")})
    return home


@pytest.fixture
def save(tiny_directory, tmp_path):
    """Return a function that saves the tiny model to checkpoint-<step>, as a trainer would."""
    return lambda step: shutil.copytree(tiny_directory, tmp_path / "run" / f"checkpoint-{step}")


class Daemon:
    """Scans repeatedly and handles the results as Dagster's daemon does."""

    def __init__(self, instance, home):
        self.instance, self.home, self.cursor, self.now, self.keys = instance, home, "{}", time.time(), {}
        self.meanwhile = lambda: None  # called while the sensor waits for files to settle

    def tick(self, study=STUDY, seconds=5.0):
        self.now += seconds
        memory = json.loads(self.cursor)
        tick = Discovery(self.instance, study, self.home, memory, self.now, lambda: self.meanwhile()).scan()
        self.cursor = json.dumps(tick.memory)
        if tick.registered:
            self.instance.add_dynamic_partitions(CHECKPOINT, tick.registered)
        launched = [request for request in tick.requests if request.run_key not in self.keys]
        for request in launched:
            self.keys[request.run_key] = self.start(request.tags)
        return tick, [request.tags[CHECKPOINT_TAG] for request in launched]

    def start(self, tags):
        run = dg.DagsterRun(job_name=MEASURE, status=dg.DagsterRunStatus.STARTED, tags=dict(tags))
        self.instance.add_run(run)
        return run.run_id

    def finish(self, status=dg.DagsterRunStatus.SUCCESS):
        for run in self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])):
            if status == dg.DagsterRunStatus.SUCCESS:
                kind = dg.DagsterEventType.RUN_SUCCESS
                event = dg.DagsterEvent(event_type_value=kind.value, job_name=MEASURE)
                self.instance.report_dagster_event(event, run.run_id)
            else:
                self.instance.report_run_failed(run, "out of memory")


@pytest.fixture
def daemon(instance, home):
    return Daemon(instance, home)


def test_a_complete_folder_is_registered_and_measured_once(daemon, save):
    save(8)
    tick, launched = daemon.tick()
    assert launched == ["run7.checkpoint-8"]
    assert tick.registered == ["run7.checkpoint-8"]
    entry = daemon.home.registry.get("run7.checkpoint-8")
    assert (entry.series, entry.step) == ("run7", 8)

    for _ in range(5):
        tick, launched = daemon.tick()
        assert launched == []
        assert "STARTED" in tick.reasons[0]
    daemon.finish()
    for _ in range(5):
        tick, launched = daemon.tick()
        assert launched == []
        assert tick.reasons == []
    assert len(daemon.instance.get_runs()) == 1


def test_a_folder_whose_files_change_during_the_scan_is_not_measured(daemon, save):
    folder = save(8)
    tokenizer = folder / "tokenizer_config.json"
    daemon.meanwhile = lambda: tokenizer.write_text(tokenizer.read_text() + " ")
    for _ in range(2):
        tick, launched = daemon.tick()
        assert launched == []
        assert daemon.home.registry.names() == []
        assert tick.reasons == [
            "run7.checkpoint-8: its files are still changing; it is measured once they stop changing"
        ]
    daemon.meanwhile = lambda: None
    assert daemon.tick()[1] == ["run7.checkpoint-8"]


def test_an_incomplete_folder_is_not_measured_and_the_tick_states_the_reason(daemon, save):
    folder = save(8)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    for _ in range(3):
        tick, launched = daemon.tick()
        assert launched == []
        assert "model.safetensors is not a complete safetensors file" in tick.reasons[0]
    weights.write_bytes(whole)
    assert daemon.tick()[1] == ["run7.checkpoint-8"]


def test_two_new_checkpoints_get_one_run_each(daemon, save):
    save(8)
    save(16)
    assert daemon.tick()[1] == ["run7.checkpoint-8", "run7.checkpoint-16"]
    daemon.finish()
    for _ in range(3):
        assert daemon.tick()[1] == []


def test_a_daemon_without_its_cursor_launches_nothing_twice(daemon, save):
    save(8)
    daemon.tick()
    daemon.cursor, daemon.keys = "{}", {}  # killed: cursor and run keys are lost
    for _ in range(3):
        assert daemon.tick()[1] == []
    daemon.finish()
    daemon.cursor = "{}"
    for _ in range(3):
        assert daemon.tick()[1] == []


def test_a_rewritten_folder_is_measured_again(daemon, save, tmp_path):
    folder = save(8)
    daemon.tick()
    daemon.finish()
    daemon.tick()
    (folder / "config.json").write_text((folder / "config.json").read_text() + "\n")
    assert daemon.tick()[1] == ["run7.checkpoint-8"]


def test_a_checkpoint_that_keeps_failing_gets_a_failed_check_and_does_not_block_the_next(daemon, save):
    save(8)
    assert daemon.tick()[1] == ["run7.checkpoint-8"]
    daemon.finish(dg.DagsterRunStatus.FAILURE)
    tick, launched = daemon.tick()
    assert launched == []
    assert "attempt 1 failed: out of memory; retry in" in tick.reasons[0]

    attempts, events = 1, []
    for _ in range(8):
        tick, launched = daemon.tick(seconds=1000)
        attempts += len(launched)
        events += tick.events
        daemon.finish(dg.DagsterRunStatus.FAILURE)
    assert attempts == 3
    assert [(event.check_name, event.partition, event.passed) for event in events] == [
        (MEASURED_CHECK, "run7.checkpoint-8", False)
    ]
    assert "out of memory" in events[0].description
    tags = [run.tags[ATTEMPT_TAG] for run in daemon.instance.get_runs()]
    assert sorted(tags) == ["1", "2", "3"]

    save(16)
    assert daemon.tick()[1] == ["run7.checkpoint-16"]


def test_manually_registered_checkpoints_are_measured_and_imported_runs_are_not(daemon, tiny_directory):
    daemon.home.registry.add("mine", {"path": str(tiny_directory)})
    daemon.home.registry.add("theirs", {"imported": "imported/theirs"})
    tick, launched = daemon.tick()
    assert launched == ["mine"]
    config = tick.requests[0].run_config["ops"]["measure"]["config"]
    assert config == {"checkpoint": "mine", "nightly": False}
    tags = tick.requests[0].tags
    assert run_tags(STUDY, "mine", tags[STAMP_TAG]).items() <= tags.items()


def test_a_watch_that_cannot_be_scanned_does_not_block_the_others(daemon, save, tmp_path):
    daemon.home.watched.add("gone", {"directory": str(tmp_path / "nowhere")})
    save(8)
    tick, launched = daemon.tick()
    assert any(reason.startswith("gone: ") and "nowhere" in reason for reason in tick.reasons)
    assert launched == ["run7.checkpoint-8"]


def test_another_study_measures_the_checkpoint_again(daemon, save):
    save(8)
    daemon.tick()
    daemon.finish()
    assert daemon.tick()[1] == []
    assert daemon.tick(STUDY.model_copy(update={"name": "another"}))[1] == ["run7.checkpoint-8"]


def test_a_checkpoint_deleted_after_its_measurement_is_ignored(daemon, save):
    folder = save(8)
    daemon.tick()
    daemon.finish()
    daemon.tick()
    shutil.rmtree(folder)
    for _ in range(2):
        tick, launched = daemon.tick()
        assert (tick.reasons, launched) == ([], [])


def test_a_refused_checkpoint_gets_one_failed_check_and_is_not_registered(daemon, save):
    config = save(8) / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "llava"}))
    tick, launched = daemon.tick()
    assert (launched, daemon.home.registry.names()) == ([], [])
    assert [(event.partition, event.passed) for event in tick.events] == [("run7.checkpoint-8", False)]
    assert "found 'llava'; expected an architecture for which Transformers has" in tick.events[0].description
    tick, _ = daemon.tick()
    assert tick.events == []
    assert "llava" in tick.reasons[0]
    config.write_text(json.dumps({**json.loads(config.read_text()), "model_type": "llama"}))
    assert daemon.tick()[1] == ["run7.checkpoint-8"]  # rewritten, so it is tried again


def test_an_incomplete_folder_that_stays_unchanged_gets_a_failed_check(daemon, save):
    (save(8) / "tokenizer.json").unlink()
    assert daemon.tick()[0].events == []
    assert daemon.tick(seconds=STUCK / 2)[0].events == []
    [event] = daemon.tick(seconds=STUCK)[0].events
    assert not event.passed
    assert "incomplete, and unchanged for 30 minutes: " in event.description
    assert "no tokenizer found" in event.description
    assert daemon.tick(seconds=STUCK)[0].events == []


def test_a_removed_checkpoint_is_not_registered_again_by_its_watch(daemon, save):
    save(8)
    assert daemon.tick()[1] == ["run7.checkpoint-8"]
    daemon.home.registry.remove("run7.checkpoint-8")
    daemon.instance.delete_dynamic_partition(CHECKPOINT, "run7.checkpoint-8")
    for _ in range(2):
        tick, launched = daemon.tick()
        assert (launched, tick.registered, daemon.home.registry.names()) == ([], [], [])


def test_hubs_that_do_not_answer_leave_time_for_local_checkpoints(daemon, save, monkeypatch):
    save(8)
    for number in range(4):
        daemon.home.watched.add(f"hub{number}", {"hub": f"org/model{number}"})
    monkeypatch.setattr("persona_assets.automation.discovery.HUB_SECONDS", 0.0)
    tick, launched = daemon.tick()
    assert launched == ["run7.checkpoint-8"]
    assert [reason for reason in tick.reasons if "hub3: not looked up in this tick" in reason]


def test_a_tick_registers_a_limited_number_of_checkpoints(daemon, save, monkeypatch):
    monkeypatch.setattr("persona_assets.automation.discovery.MOST_NEW", 2)
    for step in (1, 2, 3):
        save(step)
    tick, launched = daemon.tick()
    assert launched == ["run7.checkpoint-1", "run7.checkpoint-2"]
    assert "1 more new checkpoints are left to the next ticks" in tick.reasons
    assert daemon.tick()[1] == ["run7.checkpoint-3"]
