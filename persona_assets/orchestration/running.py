"""Materialises what is left to do for a checkpoint, in this process, through the code location's own jobs."""

import os
import socket
from dataclasses import dataclass

import dagster as dg
import psutil

from persona_assets.orchestration.heavy import key_range
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.jobs import job_names
from persona_assets.orchestration.provenance import HEAVY
from persona_assets.orchestration.reporting import report_study
from persona_assets.orchestration.resources import Gpu
from persona_assets.orchestration.standing import Standings, standings
from persona_assets.study import Study

HOST, PROCESS = "persona_assets/host", "persona_assets/process"


@dataclass(frozen=True)
class Run:
    """One study on one checkpoint of an instance."""

    instance: dg.DagsterInstance
    defs: dg.Definitions
    home: Home
    study: Study
    checkpoint: str

    def prepare(self) -> None:
        """Frees what killed runs hold; tells Dagster the study's prompts and the registered checkpoints."""
        release_dead_runs(self.instance)
        report_study(self.instance, self.study, self.home)

    def standings(self) -> Standings:
        """See `orchestration.standing`."""
        gpu = Gpu(**self.study.inference.model_dump())
        return standings(self.instance, self.defs, self.home, self.study, gpu, self.checkpoint)

    def materialise(self) -> list[str]:
        """Runs the jobs that have something to do, upstream first.

        Returns:
            The names of the jobs that ran; empty where everything was current.

        Raises:
            Whatever the failing step raised.
        """
        ran = []
        for name in job_names(self.study):
            job = self.defs.resolve_job_def(name)
            assets = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
            now = self.standings()
            if all(standing == "current" for asset in assets for standing in now[asset].values()):
                continue
            heavy = next((asset for asset in assets if asset in HEAVY), None)
            job.execute_in_process(
                instance=self.instance,
                run_config={"loggers": {"console": {"config": {}}}},  # the code location's own, not Dagster's default
                partition_key=None if heavy else self.checkpoint,
                tags={**(key_range(self.study, heavy, self.checkpoint) if heavy else {}), **_this_process()},
            )
            ran.append(name)
        return ran


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Marks runs whose process on this host is gone as failed and frees their slots; returns their ids.

    A killed process cannot say that it ended: its run would stay STARTED and keep the card's slot for ever.
    """
    dead = []
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    for run in instance.get_runs(unfinished):
        if run.tags.get(HOST) != socket.gethostname() or _alive(run.tags[PROCESS]):
            continue
        instance.report_run_failed(run, "its process was killed; what it had finished is kept")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        dead.append(run.run_id)
    return dead


def _this_process() -> dict[str, str]:
    # A process id is used again some day; with its start it is unique.
    return {HOST: socket.gethostname(), PROCESS: f"{os.getpid()}@{psutil.Process().create_time():.2f}"}


def _alive(process: str) -> bool:
    pid, _, started = process.partition("@")
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.NoSuchProcess:
        return False
