"""Detection and clean-up of runs whose process has died.

A killed process cannot report its end: its run would stay STARTED and keep its slot in the pool forever. Therefore each
run is tagged with the process that executes it, and runs whose process is gone are marked as failed.
"""

import os
import socket
from collections.abc import Iterable

import dagster as dg
import psutil

# Shown in Dagster's list of runs, unlike the tags of a range of partitions.
CHECKPOINT_TAG = "persona_assets/checkpoint"
HOST, PROCESS = "persona_assets/host", "persona_assets/process"
UNFINISHED = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING)


def claim_run(instance: dg.DagsterInstance, run_id: str, checkpoints: Iterable[str] = ()) -> None:
    """Tag the run with this host and process, and with the checkpoints that it works on."""
    # The operating system reuses process ids; id and start time together are unique.
    process = f"{os.getpid()}@{psutil.Process().create_time():.2f}"
    of = ", ".join(dict.fromkeys(checkpoints))
    tags = {CHECKPOINT_TAG: of} if of else {}
    instance.add_run_tags(run_id, {**tags, HOST: socket.gethostname(), PROCESS: process})


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark runs whose process on this host is gone as failed, free their pool slots, and return their ids.

    Also frees slots that finished runs still occupy: a run that failed during a database outage may not have released
    its slot, and the next run would wait for it forever.
    """
    dead = dead_runs(instance)
    for run in dead:
        instance.report_run_failed(run, "its process was killed; the personas it had finished are stored")
    storage = instance.event_log_storage
    for run_id in storage.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            storage.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in dead]


def dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the unfinished runs whose process on this host is gone."""
    unfinished = instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)))
    return [run for run in unfinished if run.tags.get(HOST) == socket.gethostname() and not _alive(run.tags[PROCESS])]


def _alive(process: str) -> bool:
    pid, _, started = process.partition("@")
    try:
        found = psutil.Process(int(pid))
        return f"{found.create_time():.2f}" == started and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
