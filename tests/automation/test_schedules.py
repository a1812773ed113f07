"""The nightly schedule verifies all weights, and skips pruned artefacts and deleted checkpoints."""

import os
from datetime import UTC, datetime

import dagster as dg
import pytest

from persona_assets.automation.schedules import nightly
from persona_assets.checkpoints import CheckpointError
from persona_assets.definitions import build_definitions
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY
from persona_assets.runs.attempts import MEASURE
from persona_assets.runs.measure_job import measure_config
from persona_assets.runs.run import Run


@pytest.fixture
def run(tmp_path, tiny_directory):
    """Return a run on an instance in which the tiny model is registered and identified."""
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.registry.add("tiny", {"path": str(tiny_directory)})
    with dg.instance_for_test() as instance:
        run = Run(instance, build_definitions(STUDY, home), home, STUDY, "tiny")
        run.prepare()
        run.materialise_job("identify_checkpoint")
        yield run


def at_night(run):
    job = run.defs.resolve_job_def(MEASURE)
    return job.execute_in_process(instance=run.instance, run_config=measure_config("tiny", nightly=True))


def check(run):
    key = dg.AssetCheckKey(dg.AssetKey("model_checkpoint"), "weights_are_unchanged")
    records = run.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    return records[0].event.asset_check_evaluation


def test_every_registered_checkpoint_gets_one_run_per_night(run):
    run.home.registry.add("theirs", {"imported": "imported/theirs"})
    night = datetime(2026, 11, 24, 3, tzinfo=UTC)
    context = dg.build_schedule_context(
        instance=run.instance, resources={"home": run.home}, scheduled_execution_time=night
    )
    (request,) = list(nightly(context))
    assert request.run_key == "2026-11-24 tiny"
    assert request.run_config == measure_config("tiny", nightly=True)
    assert nightly.default_status == dg.DefaultScheduleStatus.STOPPED


def test_a_changed_byte_is_found_even_with_the_same_size_and_time(run, tiny_directory):
    weights = tiny_directory / "model.safetensors"
    times, content = weights.stat(), bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(CheckpointError, match="tiny: weights changed since they were recorded"):
        at_night(run)
    assert not check(run).passed
    assert check(run).partition == "tiny"
    # Nothing was measured with the changed weights.
    assert run.staleness()["generations"] == dict.fromkeys(run.staleness()["generations"], "missing")


def test_the_result_of_the_second_night_replaces_that_of_the_first(run, tiny_directory):
    weights = tiny_directory / "model.safetensors"
    content = weights.read_bytes()
    for last in (b"1", b"2"):
        weights.write_bytes(content[:-1] + last)
        with pytest.raises(CheckpointError, match="tiny: weights changed"):
            at_night(run)
    assert not check(run).passed


def test_a_checkpoint_whose_folder_was_deleted_is_skipped(run, tiny_directory):
    tiny_directory.rename(tiny_directory.with_name("elsewhere"))
    result = at_night(run)
    assert result.success
    lines = [entry.user_message for entry in run.instance.all_logs(result.run_id)]
    assert any(line.endswith("no longer exists; its results are kept") for line in lines)
