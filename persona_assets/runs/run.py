"""Runs of one study on one checkpoint: staleness, and in-process execution of the jobs that have work to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg

from persona_assets.checkpoints import CheckpointError
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import COMPARE_CHECKPOINTS, job_names
from persona_assets.graph.loggers import PLAIN_LINES
from persona_assets.graph.processes import CHECKPOINT_TAG, release_dead_runs
from persona_assets.graph.provenance import HEAVY
from persona_assets.graph.resources import Gpu
from persona_assets.runs.events import report_study
from persona_assets.runs.heavy import key_range
from persona_assets.runs.requirements import require_readable_files
from persona_assets.runs.stale_reasons import stale_reasons
from persona_assets.runs.staleness import Staleness, Statuses, staleness, to_do
from persona_assets.study import Study


@dataclass(frozen=True)
class Run:
    """One study applied to one checkpoint of an instance.

    Attributes:
        tags: tags of every Dagster run that it starts.
    """

    instance: dg.DagsterInstance
    defs: dg.Definitions
    home: Home
    study: Study
    checkpoint: str
    tags: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Clean up after killed runs, and report the study's prompts and the registered checkpoints to Dagster."""
        release_dead_runs(self.instance)
        report_study(self.instance, self.study, self.home)

    def compare(self) -> Staleness:
        """Compare the checkpoint's artefacts with today's inputs, settings and code; see `runs.staleness`."""
        gpu = Gpu(**self.study.inference.model_dump())
        return staleness(self.instance, self.defs, self.home, self.study, gpu, self.checkpoint)

    def staleness(self) -> Statuses:
        """Return the status of every artefact of the checkpoint."""
        return self.compare().statuses

    def stale_reasons(self, compared: Staleness | None = None) -> dict[str, list[str]]:
        """Return why assets are stale; see `runs.stale_reasons`."""
        return stale_reasons(self.home, compared or self.compare())

    def materialise(self, found: Statuses | None = None) -> list[str]:
        """Run the jobs that have something to compute, upstream first.

        Args:
            found: the current result of `staleness`, if it is known.

        Returns:
            Names of the jobs that ran; empty if everything was current.

        Raises:
            LeakageError: a file that the study names cannot be used.
            CheckpointError: the checkpoint's files are gone, and something that needs them is not stored.
            Exception: the error of the step that failed.
        """
        require_readable_files(self.study)
        self._require_files()
        ran = []
        for name in job_names(self.study):
            found = found or self.staleness()
            if self.materialise_job(name, found):
                ran.append(name)
                found = None  # what ran changes what is downstream of it
        return ran

    def materialise_job(self, name: str, found: Statuses | None = None) -> bool:
        """Run one of the jobs if it has something to compute; return whether it ran. `found` as in `materialise`."""
        job = self.defs.resolve_job_def(name)
        assets = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
        if not assets & to_do(found or self.staleness()):
            return False
        heavy = next((asset for asset in assets if asset in HEAVY), None)
        whole = name == COMPARE_CHECKPOINTS
        tags = key_range(self.study, heavy, self.checkpoint) if heavy else {}
        job.execute_in_process(
            instance=self.instance,
            run_config=PLAIN_LINES,
            partition_key=None if heavy or whole else self.checkpoint,
            tags={**tags, **({} if whole else {CHECKPOINT_TAG: self.checkpoint}), **self.tags},
        )
        return True

    def _require_files(self) -> None:
        if (gone := self.home.registry.get(self.checkpoint).gone()) is None or self.study.imported:
            return
        lacking = {
            asset: sum(status in ("missing", "out of date") for status in partitions.values())
            for asset, partitions in self.staleness().items()
            if asset in HEAVY
        }
        if missing := [f"{count} of {asset}" for asset, count in lacking.items() if count]:
            raise CheckpointError(
                f"{self.checkpoint}: {gone} is gone, so {', '.join(missing)} cannot be computed; what was stored "
                "before stays, and `persona-assets status` lists it"
            )

    def is_pruned(self) -> bool:
        """Return whether any of the checkpoint's latest artefacts was pruned."""
        return any("pruned" in partitions.values() for partitions in self.staleness().values())
