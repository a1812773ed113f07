"""Keeps the page up to date with the files that people edit; starts nothing."""

import dagster as dg

from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import per_checkpoint
from persona_assets.orchestration.reporting import new_checkpoints, prompt_events
from persona_assets.study import Study


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def study_and_registry(
    context: dg.SensorEvaluationContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.SensorResult | dg.SkipReason:
    """Reports changed prompts of the study and new checkpoints of the registry. Launches no run."""
    new, events = new_checkpoints(context.instance, home), prompt_events(context.instance, study)
    if not new and not events:
        return dg.SkipReason("the page knows every prompt of the study and every registered checkpoint")
    requests = [per_checkpoint.build_add_request(new)] if new else []
    return dg.SensorResult(asset_events=events, dynamic_partitions_requests=requests)
