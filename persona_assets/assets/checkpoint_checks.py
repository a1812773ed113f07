"""Asset checks of a checkpoint as a whole: unchanged files, successful measurement, current report.

They run when their asset is materialised from Dagster's page, and every night; the other jobs skip them.
"""

import time
from collections.abc import Callable, Sequence

import dagster as dg

from persona_assets.automation.discovery import MEASURED_CHECK
from persona_assets.checkpoints import CheckpointError, stamp
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import STUDY_CHECK
from persona_assets.graph.partitions import per_checkpoint
from persona_assets.graph.resources import Gpu
from persona_assets.runs import verify
from persona_assets.runs.attempts import outlook, runs_of
from persona_assets.runs.heavy import recorded_checkpoint
from persona_assets.runs.run import Run
from persona_assets.runs.self_check import SELF_CHECK, run_self_check
from persona_assets.runs.study_changes import Stale, StudyChanges, evaluation
from persona_assets.study import Study


@dg.asset_check(asset="model_checkpoint", partitions_def=per_checkpoint)
def weights_are_unchanged(context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]) -> dg.AssetCheckResult:
    """The checkpoint's files still have the digests that were recorded. Re-reads every byte."""
    return result(verify.weights_are_unchanged(context.instance, home, context.partition_key))


@dg.asset_check(asset="model_checkpoint", name=MEASURED_CHECK, partitions_def=per_checkpoint)
def measured_without_failure(
    context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """Automatic measurement of the checkpoint has not failed for good. Sensor `new_checkpoints` also reports this."""
    name = context.partition_key
    try:
        runs = runs_of(context.instance, study, [name])[name]
        found = outlook(context.instance, study, runs, stamp(home.registry.get(name)), time.time())
    except CheckpointError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    return dg.AssetCheckResult(passed=found.what != "failed", description=found.why or found.what)


@dg.asset_check(asset="model_checkpoint", name=SELF_CHECK, partitions_def=per_checkpoint, blocking=True, pool="gpu")
def computed_as_its_own_forward_pass(
    context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """Scoring, hidden states, generation and training compute what a plain forward pass of the model computes.

    Every run makes sure of it before it measures anything; the result is stored per checkpoint, hardware and libraries.
    """
    checkpoint, identity = recorded_checkpoint(context.instance, home, context.partition_key)
    return result(run_self_check(home, study, gpu, checkpoint, identity, context.log)[0])


def build_report_check(defs: Callable[[], dg.Definitions]) -> dg.AssetChecksDefinition:
    """Build the check of a report's staleness.

    Args:
        defs: returns the definitions, which will contain this check; called when the check runs.
    """

    @dg.asset_check(asset="report", partitions_def=per_checkpoint)
    def report_is_current(
        context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
    ) -> dg.AssetCheckResult:
        """The report and everything upstream of it match the current study, code and checkpoint files."""
        return result(verify.report_is_current(Run(context.instance, defs(), home, study, context.partition_key)))

    return report_is_current


def build_study_checks(assets: Sequence[str]) -> list[dg.AssetChecksDefinition]:
    """Build the check `study_is_unchanged` of tables, figures and reports."""

    def build(asset: str) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=asset, name=STUDY_CHECK)
        def study_is_unchanged(
            context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
        ) -> dg.AssetCheckResult:
            """Nothing in the study changed since this was computed, for any checkpoint. Also reported after edits."""
            changes, stale = StudyChanges(context.instance, home, study), Stale()
            for name in home.registry.names():
                if changed := changes.of_checkpoint(name).get(asset):
                    stale.add(name, changed)
            return result(evaluation(asset, stale if stale.number else None))

        return study_is_unchanged

    return [build(asset) for asset in assets]


def result(found: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    """Convert a check evaluation to the result type that a check function returns."""
    return dg.AssetCheckResult(
        passed=found.passed, severity=found.severity, description=found.description, metadata=found.metadata
    )


CHECKS = [
    weights_are_unchanged,
    measured_without_failure,
    computed_as_its_own_forward_pass,
]
