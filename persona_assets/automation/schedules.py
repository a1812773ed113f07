"""Nightly schedule, stopped by default."""

from collections.abc import Iterator

import dagster as dg

from persona_assets.graph.home import Home
from persona_assets.runs.attempts import MEASURE
from persona_assets.runs.measure_job import measure_config


@dg.schedule(
    cron_schedule="0 3 * * *",
    job_name=MEASURE,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Verifies the weights of every checkpoint by reading them in full, and materialises stale assets.",
)
def nightly(context: dg.ScheduleEvaluationContext, home: dg.ResourceParam[Home]) -> Iterator[dg.RunRequest]:
    """Request one run per registered checkpoint; pruned artefacts are not recomputed."""
    night = f"{context.scheduled_execution_time:%Y-%m-%d}"
    for name in home.registry.names():
        if home.registry.get(name).imported is None:
            yield dg.RunRequest(run_key=f"{night} {name}", run_config=measure_config(name, nightly=True))
