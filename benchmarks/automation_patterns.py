"""Two other ways to measure new checkpoints automatically, as baselines for `benchmarks.automation`.

`PATTERN=chain`: a sensor starts the first job, and a run-status sensor starts each following one; every job is a run of
its own and loads the model.
`PATTERN=declarative`: Dagster's `AutomationCondition.eager()` on every asset, evaluated every five seconds.
"""

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import dagster as dg

from persona_assets.checkpoints.scan import scan_watch
from persona_assets.definitions import build_definitions
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import job_names
from persona_assets.graph.partitions import CHECKPOINT, STUDY, per_checkpoint
from persona_assets.runs.events import report_study
from persona_assets.runs.heavy import key_range

CHAIN = os.environ.get("PATTERN") == "chain"
HOME = Home.of_environment()
HEAVY_OF = {"measure_personas": "generations", "train_markers": "marker_adapter"}
JOBS = job_names(STUDY)


@dg.sensor(
    job_name=JOBS[0] if CHAIN else None,
    minimum_interval_seconds=1,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def arrivals(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Register checkpoints that were complete in the previous tick and have not changed since."""
    report_study(context.instance, STUDY, HOME)
    found = [each for watch in HOME.watched.all() for each in scan_watch(watch, HOME.registry) if each.entry]
    stamps = " ".join(each.stamp for each in found)
    known = set(context.instance.get_dynamic_partitions(CHECKPOINT))
    new = [each for each in found if each.name not in known and each.stamp in (context.cursor or "")]
    for each in new:
        HOME.registry.add(each.name, each.entry or {})
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=each.stamp, partition_key=each.name) for each in new] if CHAIN else [],
        dynamic_partitions_requests=[per_checkpoint.build_add_request([each.name for each in new])] if new else [],
        cursor=stamps,
    )


def after(name: str, following: str, jobs: Mapping[str, Any]) -> dg.RunStatusSensorDefinition:
    """Return a sensor that starts a job when the previous one succeeded."""

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        name=f"after_{name}",
        monitored_jobs=[jobs[name]],
        request_job=jobs[following],
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def next_job(context: dg.RunStatusSensorContext) -> dg.RunRequest:
        tags = context.dagster_run.tags
        checkpoint = (tags.get("dagster/partition") or tags["dagster/asset_partition_range_start"]).split("|")[0]
        heavy = HEAVY_OF.get(following)
        if following == JOBS[-1]:
            return dg.RunRequest(run_key=context.dagster_run.run_id)
        return dg.RunRequest(
            run_key=context.dagster_run.run_id,
            partition_key=None if heavy else checkpoint,
            tags=key_range(STUDY, heavy, checkpoint) if heavy else {},
        )

    return next_job


def build() -> dg.Definitions:
    """Return the project's definitions with the sensors of the other pattern."""
    base = build_definitions(STUDY, HOME)
    if CHAIN:
        jobs = {job.name: job for job in base.jobs or []}
        chain = [after(name, following, jobs) for name, following in pairwise(JOBS)]
        return dg.Definitions.merge(base, dg.Definitions(sensors=[arrivals, *chain]))
    eager = dg.AutomationCondition.eager()
    conditioned = base.map_asset_specs(
        func=lambda spec: spec.replace_attributes(automation_condition=eager) if spec.kinds != {"yaml"} else spec
    )
    sensor = dg.AutomationConditionSensorDefinition(
        "declarative",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    return dg.Definitions.merge(conditioned, dg.Definitions(sensors=[arrivals, sensor]))


defs = build()
