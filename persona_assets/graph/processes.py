"""Which process works on a run, and what becomes of runs whose process is gone.

A killed process cannot say that it ended: its run would stay STARTED and keep the card's slot for ever. So every run
carries the process that works on it as tags, and runs without a living one are failed and their slots freed.
"""

import os
import socket

import dagster as dg
import psutil

HOST, PROCESS = "persona_assets/host", "persona_assets/process"
UNFINISHED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING)


def claim_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Writes this process into the run's tags."""
    # A process id is used again some day; with its start it is unique.
    process = f"{os.getpid()}@{psutil.Process().create_time():.2f}"
    instance.add_run_tags(run_id, {HOST: socket.gethostname(), PROCESS: process})


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks runs whose process on this host is gone as failed and frees their slots; returns their ids.

    Frees the slots of ended runs as well: one whose database went away for a while may have said that it failed and not
    have given its slot back, and the next run would wait for it for ever.
    """
    dead = dead_runs(instance)
    for run in dead:
        instance.report_run_failed(run, "its process was killed; what it had finished is kept")
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        held_by = instance.get_run_by_id(run_id)
        if held_by is None or held_by.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in dead]


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Unfinished runs whose process on this host is gone."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)))
    return [run for run in unfinished if run.tags.get(HOST) == socket.gethostname() and not _alive(run.tags[PROCESS])]


def _alive(process: str) -> bool:
    pid, _, started = process.partition("@")
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.2f}" == started and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
