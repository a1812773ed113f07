"""Verification of a checkpoint: whether its files are unchanged, and whether its report is current."""

import dagster as dg

from persona_assets.checkpoints import CheckpointError, Identity, identify
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.runs.run import Run

WEIGHTS_CHECK, CURRENT_CHECK = "weights_are_unchanged", "report_is_current"


def weights_are_unchanged(instance: dg.DagsterInstance, home: Home, checkpoint: str) -> dg.AssetCheckEvaluation:
    """Recompute the digests of the checkpoint's files and compare them with the recorded ones."""
    recorded = latest_artefacts(instance, home.store, "model_checkpoint", [checkpoint])[checkpoint].read()
    known = Identity.model_validate(recorded)
    found: dict[str, str] = {"recorded": known.digest}
    try:
        identity = identify(home.registry.get(checkpoint), home.digests, recheck=True)
        changed = [field for field in Identity.model_fields if getattr(identity, field) != getattr(known, field)]
        problem = f"{', '.join(changed)} changed since they were recorded" if changed else ""
        found["found"] = identity.digest
    except CheckpointError as error:
        problem = str(error)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("model_checkpoint"),
        check_name=WEIGHTS_CHECK,
        passed=not problem,
        partition=checkpoint,
        description=problem or "unchanged since they were recorded",
        metadata=found,
    )


def report_is_current(run: Run) -> dg.AssetCheckEvaluation:
    """Check that no asset of the checkpoint is missing or stale; otherwise return a warning that lists them."""
    try:
        left = {
            asset: [key for key, status in partitions.items() if status in ("missing", "out of date")]
            for asset, partitions in run.staleness().items()
        }
        left = {asset: keys for asset, keys in left.items() if keys}
        problem = "; ".join(f"{asset}: {len(keys)} to compute" for asset, keys in left.items())
    except CheckpointError as error:
        left, problem = {}, str(error)
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey("report"),
        check_name=CURRENT_CHECK,
        passed=not problem,
        severity=dg.AssetCheckSeverity.WARN,
        partition=run.checkpoint,
        description=problem or "current",
        metadata={"to_compute": left},
    )
