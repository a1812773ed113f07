"""Materialises what is left to do for a checkpoint, in this process, through the code location's own jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg

from persona_assets.checkpoint import CheckpointError
from persona_assets.orchestration.heavy import key_range
from persona_assets.orchestration.history import latest_events
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.jobs import COMPARE_CHECKPOINTS, VERIFY, job_names
from persona_assets.orchestration.loggers import PLAIN_LINES
from persona_assets.orchestration.processes import release_dead_runs
from persona_assets.orchestration.provenance import HEAVY
from persona_assets.orchestration.reporting import report_study
from persona_assets.orchestration.resources import Gpu
from persona_assets.orchestration.standing import Standings, standings, to_do
from persona_assets.study import Study


@dataclass(frozen=True)
class Run:
    """One study on one checkpoint of an instance.

    Attributes:
        tags: of every run that it starts.
    """

    instance: dg.DagsterInstance
    defs: dg.Definitions
    home: Home
    study: Study
    checkpoint: str
    tags: Mapping[str, str] = field(default_factory=dict)

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
        return [name for name in job_names(self.study) if self.materialise_job(name)]

    def materialise_job(self, name: str) -> bool:
        """Runs one of the jobs, if it has something to do; returns whether it had."""
        job = self.defs.resolve_job_def(name)
        assets = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        if not assets & to_do(self.standings()):
            return False
        heavy = next((asset for asset in assets if asset in HEAVY), None)
        whole = name == COMPARE_CHECKPOINTS
        tags = key_range(self.study, heavy, self.checkpoint) if heavy else {}
        self._execute(name, None if heavy or whole else self.checkpoint, **tags)
        return True

    def verify(self) -> None:
        """Reads every byte of the checkpoint's files again, if they were recorded.

        Raises:
            CheckpointError: they are not what was recorded; the check says so in the page too.
        """
        if not latest_events(self.instance, "model_checkpoint", [self.checkpoint]):
            return
        result = self._execute(VERIFY, self.checkpoint)
        for found in result.get_asset_check_evaluations():
            if found.check_name == "weights_are_unchanged" and not found.passed:
                raise CheckpointError(
                    f"{self.checkpoint}: {found.description}; materialise model_checkpoint if that was meant, "
                    "or register the new weights under a name of their own"
                )

    def is_pruned(self) -> bool:
        """Whether a person had something of the checkpoint deleted that was not made again."""
        return any("pruned" in partitions.values() for partitions in self.standings().values())

    def _execute(self, name: str, partition: str | None, **tags: str) -> dg.ExecuteInProcessResult:
        return self.defs.resolve_job_def(name).execute_in_process(
            instance=self.instance,
            run_config=PLAIN_LINES,
            partition_key=partition,
            tags={**tags, **self.tags},
        )
