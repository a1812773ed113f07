"""Checks of a checkpoint as a whole: its bytes, whether it could be measured, whether its report is current."""

import time
from collections.abc import Callable

import dagster as dg

from persona_assets.checkpoint import CheckpointError, Identity, identify, stamp
from persona_assets.orchestration.arriving import MEASURED_CHECK
from persona_assets.orchestration.attempts import outlook
from persona_assets.orchestration.history import latest_artefacts
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import per_checkpoint
from persona_assets.orchestration.running import Run
from persona_assets.study import Study


@dg.asset_check(asset="model_checkpoint", partitions_def=per_checkpoint)
def weights_are_unchanged(context: dg.AssetCheckExecutionContext, home: dg.ResourceParam[Home]) -> dg.AssetCheckResult:
    """Every byte of the files is read again and gives the identity that was recorded."""
    name = context.partition_key
    recorded = latest_artefacts(context.instance, home.store, "model_checkpoint", [name])[name].read()
    known = Identity.model_validate(recorded)
    try:
        found = identify(home.registry.get(name), home.digests, recheck=True)
    except CheckpointError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    changed = [field for field in Identity.model_fields if getattr(found, field) != getattr(known, field)]
    return dg.AssetCheckResult(
        passed=not changed,
        description=f"{', '.join(changed)} changed since they were recorded" if changed else "as recorded",
        metadata={"recorded": known.digest, "found": found.digest},
    )


@dg.asset_check(asset="model_checkpoint", name=MEASURED_CHECK, partitions_def=per_checkpoint)
def measured_without_failure(
    context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.AssetCheckResult:
    """The automation did not give up on the checkpoint; reported by the sensor `new_checkpoints` as well."""
    name = context.partition_key
    try:
        found = outlook(context.instance, study, name, stamp(home.registry.get(name)), time.time())
    except CheckpointError as error:
        return dg.AssetCheckResult(passed=False, description=str(error))
    return dg.AssetCheckResult(passed=found.what != "failed", description=found.why or found.what)


def build_report_check(defs: Callable[[], dg.Definitions]) -> dg.AssetChecksDefinition:
    """The check that follows fingerprints through the whole graph; `defs` gives the definitions that it is part of."""

    @dg.asset_check(asset="report", partitions_def=per_checkpoint)
    def report_is_current(
        context: dg.AssetCheckExecutionContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
    ) -> dg.AssetCheckResult:
        """Everything that the report stands on is what the study and the checkpoint's files would give today."""
        run = Run(context.instance, defs(), home, study, context.partition_key)
        try:
            found = run.standings()
        except CheckpointError as error:
            return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error))
        stale = {
            asset: [key for key, standing in partitions.items() if standing in ("missing", "out of date")]
            for asset, partitions in found.items()
        }
        stale = {asset: keys for asset, keys in stale.items() if keys}
        return dg.AssetCheckResult(
            passed=not stale,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(f"{asset}: {len(keys)} to compute" for asset, keys in stale.items()) or "current",
            metadata={"to_compute": stale},
        )

    return report_is_current
