"""Results of asset checks that are reported outside of a step."""

from uuid import uuid4

import dagster as dg


def report_check(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation, run_id: str | None = None) -> None:
    """Report the result of a check.

    `report_runless_asset_event` fails on the second result of a check for one partition, because Dagster stores them
    under check, partition and run; therefore each result gets a run id.

    Args:
        run_id: the run that found the result. Default: an id that belongs to no run.
    """
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION.value
    event = dg.DagsterEvent(event_type_value=kind, event_specific_data=evaluation, job_name="")
    instance.report_dagster_event(event, run_id=run_id or str(uuid4()))
