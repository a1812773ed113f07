"""Clean-up of runs whose process is gone, with real processes."""

import subprocess
import sys

import dagster as dg
import psutil
import pytest

from persona_assets.graph.processes import CHECKPOINT_TAG, HOST, PROCESS, claim_run, release_dead_runs


@pytest.fixture
def instance():
    with dg.instance_for_test() as instance:
        yield instance


def started(instance, tags=None):
    run = dg.DagsterRun(job_name="job", status=dg.DagsterRunStatus.STARTED, tags=tags or {})
    instance.add_run(run)
    return run.run_id


def test_a_run_of_a_killed_process_fails_and_its_slot_is_freed(instance):
    instance.event_log_storage.set_concurrency_slots("gpu", 1)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    run_id = started(instance)
    claim_run(instance, run_id)
    tags = instance.get_run_by_id(run_id).tags
    theirs = f"{child.pid}@{psutil.Process(child.pid).create_time():.2f}"
    instance.add_run_tags(run_id, {PROCESS: theirs})
    assert instance.event_log_storage.claim_concurrency_slot("gpu", run_id, "step").is_claimed
    assert release_dead_runs(instance) == []

    child.kill()
    child.wait()
    assert tags[HOST]
    assert release_dead_runs(instance) == [run_id]
    assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.FAILURE
    assert instance.event_log_storage.claim_concurrency_slot("gpu", "another", "step").is_claimed
    assert release_dead_runs(instance) == []


def test_the_slot_of_a_finished_run_is_freed(instance):
    """A database outage can keep a run from freeing its slot although its failure is recorded later."""
    storage = instance.event_log_storage
    storage.set_concurrency_slots("gpu", 1)
    ended, under_way = started(instance), started(instance)
    for run_id in (ended, under_way):
        claim_run(instance, run_id)
    assert storage.claim_concurrency_slot("gpu", ended, "step").is_claimed
    assert not storage.claim_concurrency_slot("gpu", under_way, "step").is_claimed
    assert release_dead_runs(instance) == []
    assert not storage.claim_concurrency_slot("gpu", under_way, "step").is_claimed
    instance.report_run_failed(instance.get_run_by_id(ended))
    assert release_dead_runs(instance) == []
    assert storage.claim_concurrency_slot("gpu", under_way, "step").is_claimed


def test_a_zombie_counts_as_dead(instance):
    child = subprocess.Popen([sys.executable, "-c", ""])
    process = f"{child.pid}@{psutil.Process(child.pid).create_time():.2f}"
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    run_id = started(instance)
    claim_run(instance, run_id)
    instance.add_run_tags(run_id, {PROCESS: process})
    assert release_dead_runs(instance) == [run_id]
    child.wait()


def test_runs_of_this_process_of_other_hosts_and_without_tags_are_left_alone(instance):
    mine, elsewhere, untagged = started(instance), started(instance), started(instance)
    claim_run(instance, mine)
    claim_run(instance, elsewhere)
    instance.add_run_tags(elsewhere, {HOST: "another-host", PROCESS: "1@0.00"})
    assert release_dead_runs(instance) == []
    for run_id in (mine, elsewhere, untagged):
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.STARTED


def test_a_reused_process_id_is_not_mistaken_for_the_dead_process(instance):
    run_id = started(instance)
    claim_run(instance, run_id)
    pid = instance.get_run_by_id(run_id).tags[PROCESS].partition("@")[0]
    instance.add_run_tags(run_id, {PROCESS: f"{pid}@1.00"})
    assert release_dead_runs(instance) == [run_id]


def test_a_run_is_tagged_with_the_checkpoints_it_works_on(instance):
    """Dagster's list of runs hides the tags of a range of partitions, but shows this one."""
    part, whole = started(instance), started(instance)
    claim_run(instance, part, ["one", "one"])
    claim_run(instance, whole, ["one", "two"])
    assert instance.get_run_by_id(part).tags[CHECKPOINT_TAG] == "one"
    assert instance.get_run_by_id(whole).tags[CHECKPOINT_TAG] == "one, two"
