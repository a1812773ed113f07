"""Job `measure_checkpoint`: measures one checkpoint completely, up to its report, in one process.

Like `persona-assets run`, it executes the other jobs in sequence, so the model is loaded once and current results are
reused. Each of these jobs is a Dagster run of its own, with partitions, checks and lineage, tagged with the id of the
parent run.
"""

from collections.abc import Callable

import dagster as dg
from pydantic import Field

from persona_assets.checkpoints import CheckpointError, stamp
from persona_assets.graph.check_events import report_check
from persona_assets.graph.history import latest_events
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import CARD
from persona_assets.graph.loggers import PLAIN_LINES
from persona_assets.graph.processes import claim_run
from persona_assets.runs.attempts import MEASURE, SAME_AS_TAG, run_tags
from persona_assets.runs.events import report_study
from persona_assets.runs.run import Run
from persona_assets.runs.same_weights import same_as
from persona_assets.runs.verify import report_is_current, weights_are_unchanged
from persona_assets.study import Study

PART_OF = "persona_assets/part_of"
# Checkpoint name that prefills the launchpad: the embedded model, as `persona-assets run` registers it.
EXAMPLE = "smollm2-135m-instruct"


class Measured(dg.Config):
    """Config of the job's op."""

    checkpoint: str = Field(description="Name of a registered checkpoint, as in checkpoints.yaml.")
    nightly: bool = Field(
        default=False,
        description="Verify all files first, and fail if they differ from what was recorded. Skips checkpoints whose "
        "files are gone or whose artefacts were pruned.",
    )


def measure_config(checkpoint: str, nightly: bool = False) -> dict[str, object]:
    """Return the run config of the job."""
    return {
        "ops": {"measure": {"config": Measured(checkpoint=checkpoint, nightly=nightly).model_dump()}},
        **PLAIN_LINES,
    }


def build_measure_job(study: Study, home: Home, defs: Callable[[], dg.Definitions]) -> dg.JobDefinition:
    """Build the job.

    Args:
        defs: returns the definitions, which will contain this job; called when the job runs.
    """

    @dg.op(description="Materialises the missing and stale assets of one checkpoint.")
    def measure(context: dg.OpExecutionContext, config: Measured) -> None:
        instance, name = context.instance, config.checkpoint
        claim_run(instance, context.run_id)
        checkpoint = home.registry.get(name)
        gone = [place for place in (checkpoint.path, checkpoint.adapter) if place and not place.is_dir()]
        if config.nightly and gone:  # trainers delete old checkpoints
            context.log.info(f"{name}: skipped because {gone[0]} no longer exists; its results are kept")
            return
        instance.add_run_tags(context.run_id, run_tags(study, name, stamp(checkpoint)))
        report_study(instance, study, home)
        run = Run(instance, defs(), home, study, name, {PART_OF: context.run_id})
        if config.nightly and latest_events(instance, "model_checkpoint", [name]):
            weights = weights_are_unchanged(instance, home, name)
            report_check(instance, weights, context.run_id)
            if not weights.passed:
                raise CheckpointError(
                    f"{name}: {weights.description}; materialise model_checkpoint if the change is intended, "
                    "or register the new weights under a name of their own"
                )
        run.materialise_job("identify_checkpoint")
        if twin := same_as(instance, home, name):
            instance.add_run_tags(context.run_id, {SAME_AS_TAG: twin})
            context.log.info(f"{name}: skipped because it has the same weights as {twin}")
            return
        if config.nightly and run.is_pruned():
            report_check(instance, report_is_current(run), context.run_id)
            context.log.info(f"{name}: skipped because artefacts of it were pruned; its tables are kept")
            return
        ran = run.materialise()
        context.log.info(f"{name}: {', '.join(ran) or 'everything was current'}")

    @dg.job(
        name=MEASURE,
        tags=CARD,
        config=measure_config(EXAMPLE),
        description="Measures a checkpoint: responses, divergence, centroids, leakage, report and drift. "
        "Enter the name of a registered checkpoint in the launchpad; current results are not recomputed.",
    )
    def measure_checkpoint() -> None:
        measure()

    return measure_checkpoint
