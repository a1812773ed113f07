"""The job that takes one checkpoint from its files to its report, in one process.

It runs the code location's other jobs one after another, as `persona-assets run` does, so the model is loaded once for
all of them and what is current is not computed again. Each of them is a run of its own in the page, with partitions,
checks and lineage; they carry the id of the run that they are part of.
"""

from collections.abc import Callable

import dagster as dg
from pydantic import Field

from persona_assets.checkpoints import CheckpointError, stamp
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
# What the launchpad holds until somebody writes another name: the embedded model, as `persona-assets run` registers it.
EXAMPLE = "smollm2-135m-instruct"


class Measured(dg.Config):
    """What is measured."""

    checkpoint: str = Field(description="A registered checkpoint's name, as checkpoints.yaml has it.")
    nightly: bool = Field(
        default=False,
        description="First read every byte of the files again, and fail where they are not what was recorded; leave "
        "alone what a person had pruned, and checkpoints whose files are gone.",
    )


def measure_config(checkpoint: str, nightly: bool = False) -> dict[str, object]:
    """Run config of the job."""
    return {
        "ops": {"measure": {"config": Measured(checkpoint=checkpoint, nightly=nightly).model_dump()}},
        **PLAIN_LINES,
    }


def build_measure_job(study: Study, home: Home, defs: Callable[[], dg.Definitions]) -> dg.JobDefinition:
    """The job; `defs` gives the definitions that it will be part of."""

    @dg.op(description="Materialises what is missing or out of date for one checkpoint, and nothing else.")
    def measure(context: dg.OpExecutionContext, config: Measured) -> None:
        instance, name = context.instance, config.checkpoint
        claim_run(instance, context.run_id)
        checkpoint = home.registry.get(name)
        gone = [place for place in (checkpoint.path, checkpoint.adapter) if place and not place.is_dir()]
        if config.nightly and gone:  # a trainer keeps its last checkpoints only
            context.log.info(f"{name}: {gone[0]} is gone; what was measured stays")
            return
        instance.add_run_tags(context.run_id, run_tags(study, name, stamp(checkpoint)))
        report_study(instance, study, home)
        run = Run(instance, defs(), home, study, name, {PART_OF: context.run_id})
        if config.nightly and latest_events(instance, "model_checkpoint", [name]):
            weights = weights_are_unchanged(instance, home, name)
            instance.report_runless_asset_event(weights)
            if not weights.passed:
                raise CheckpointError(
                    f"{name}: {weights.description}; materialise model_checkpoint if that was meant, "
                    "or register the new weights under a name of their own"
                )
        run.materialise_job("identify_checkpoint")
        if twin := same_as(instance, home, name):
            instance.add_run_tags(context.run_id, {SAME_AS_TAG: twin})
            context.log.info(f"{name} is {twin}: the same weights under another name; nothing is computed")
            return
        if config.nightly and run.is_pruned():
            instance.report_runless_asset_event(report_is_current(run))
            context.log.info(f"{name}: its heavy artefacts were pruned; its tables stay as they are")
            return
        ran = run.materialise()
        context.log.info(f"{name}: {', '.join(ran) or 'everything was current'}")

    @dg.job(
        name=MEASURE,
        tags=CARD,
        config=measure_config(EXAMPLE),
        description="From a checkpoint's files to its report and the drift among checkpoints. "
        "Write a registered checkpoint's name into the launchpad; what is current already is not computed again.",
    )
    def measure_checkpoint() -> None:
        measure()

    return measure_checkpoint
