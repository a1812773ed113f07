"""State of a checkpoint's measurement, from runs that are added to a real instance without being executed."""

import time

import dagster as dg
import pytest

from persona_assets.graph.partitions import STUDY
from persona_assets.runs.attempts import ATTEMPT_TAG, BACKOFF, MEASURE, failure_of, outlook, run_tags, runs_of

FAILED, SUCCEEDED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS
EDITED = STUDY.model_copy(update={"questions": ("What else?",)})


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


def add_run(instance, status, study=STUDY, stamp="s1", name="run7.checkpoint-8", attempt=1):
    tags = run_tags(study, name, stamp) | ({ATTEMPT_TAG: str(attempt)} if attempt else {})
    run = dg.DagsterRun(job_name=MEASURE, status=status, tags=tags)
    instance.add_run(run)
    return run


def seen(instance, after=0.0, study=STUDY, stamp="s1"):
    runs = runs_of(instance, study, ["run7.checkpoint-8"])["run7.checkpoint-8"]
    return outlook(instance, study, runs, stamp, time.time() + after)


def test_a_checkpoint_without_runs_is_due(instance):
    assert (seen(instance).what, seen(instance).attempt) == ("try", 1)


@pytest.mark.parametrize("status", ["NOT_STARTED", "STARTING", "STARTED", "CANCELING"])
def test_a_checkpoint_with_an_unfinished_run_is_under_way(instance, status):
    add_run(instance, dg.DagsterRunStatus(status))
    assert seen(instance).what == "under way"
    assert seen(instance, stamp="s2").what == "under way"  # even if the files have changed


def test_a_measured_checkpoint_stays_measured_after_an_edit_of_the_study(instance):
    add_run(instance, SUCCEEDED)
    assert seen(instance).what == "measured"
    assert seen(instance, study=EDITED).what == "measured"
    assert seen(instance, study=STUDY.model_copy(update={"name": "another"})).what == "try"


def test_changed_files_under_the_same_name_are_measured_again(instance):
    add_run(instance, SUCCEEDED)
    assert seen(instance, stamp="s2").what == "try"


def test_a_failed_run_is_retried_twice_with_growing_delays_and_then_fails_for_good(instance):
    for attempt, pause in enumerate(BACKOFF, start=1):
        add_run(instance, FAILED, attempt=attempt)
        assert seen(instance).what == "wait"
        assert seen(instance, pause - 5).what == "wait"
        later = seen(instance, pause + 5)
        assert (later.what, later.attempt) == ("try", attempt + 1)
    add_run(instance, FAILED, attempt=3)
    assert seen(instance, 1e6).what == "failed"
    assert BACKOFF[0] < BACKOFF[1]


def test_editing_the_study_gives_a_failed_checkpoint_new_attempts(instance):
    for attempt in (1, 2, 3):
        add_run(instance, FAILED, attempt=attempt)
    assert seen(instance, 1e6, EDITED).what == "try"


def test_a_cancelled_run_is_not_retried_and_manual_runs_do_not_count_as_attempts(instance):
    add_run(instance, FAILED, attempt=None)  # launched manually
    assert seen(instance).what == "try"
    add_run(instance, dg.DagsterRunStatus.CANCELED)
    assert seen(instance, 1e6).what == "cancelled"
    add_run(instance, SUCCEEDED, attempt=None)
    assert seen(instance).what == "measured"


def test_the_reason_of_a_failure_is_the_root_cause(instance):
    @dg.op
    def breaks():
        try:
            raise ValueError("config.json is not there")
        except ValueError as error:
            raise RuntimeError("cannot be measured") from error

    @dg.job
    def job():
        breaks()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert "config.json is not there" in failure_of(instance, result.run_id)
    run = add_run(instance, dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "its process was killed")
    assert failure_of(instance, run.run_id) == "its process was killed"


def test_runs_of_several_checkpoints_are_fetched_together_and_kept_apart(instance):
    first, second, again = (add_run(instance, FAILED, name=name) for name in ("one", "two", "one"))
    add_run(instance, FAILED, name="another")
    found = runs_of(instance, STUDY, ["one", "two", "none"])
    ids = {name: [record.dagster_run.run_id for record in records] for name, records in found.items()}
    assert ids == {"one": [again.run_id, first.run_id], "two": [second.run_id], "none": []}
    assert runs_of(instance, STUDY, []) == {}
