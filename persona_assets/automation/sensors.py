"""Sensors for edited files, dead runs and new checkpoints."""

import json
import os
import time

import dagster as dg

from persona_assets.automation.discovery import Discovery
from persona_assets.automation.edited_study import EditedStudy
from persona_assets.graph.check_events import report_check
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import per_checkpoint
from persona_assets.graph.processes import release_dead_runs
from persona_assets.runs.attempts import MEASURE
from persona_assets.runs.events import new_checkpoints as unknown_to_dagster
from persona_assets.study import Study

# Set by `persona-assets ui --automate`; otherwise users enable sensors and the schedule in Dagster's page.
AUTOMATE = "PERSONA_ASSETS_AUTOMATE"
MOST_REASONS = 20  # listed in the skip reason of a tick


def default_status() -> dg.DefaultSensorStatus:
    """Return RUNNING if the page was started with --automate, else STOPPED."""
    return dg.DefaultSensorStatus.RUNNING if os.environ.get(AUTOMATE) else dg.DefaultSensorStatus.STOPPED


@dg.sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports changed prompts of the study and new checkpoints of the registry, and marks tables that an "
    "edited study made stale. Launches no runs.",
)
def study_and_registry(
    context: dg.SensorEvaluationContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.SensorResult:
    """Update Dagster's page when the study or the registry is edited; see `automation.edited_study`."""
    new, edited = unknown_to_dagster(context.instance, home), EditedStudy(context.instance, home, study)
    tick = edited.look(json.loads(context.cursor or "{}"))
    return dg.SensorResult(
        asset_events=tick.events,
        dynamic_partitions_requests=[per_checkpoint.build_add_request(new)] if new else [],
        skip_reason=tick.what,
        cursor=json.dumps(tick.memory),
    )


@dg.sensor(
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fails runs whose process was killed and frees their pool slots. Launches no runs.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Fail runs whose process died; see `graph.processes`."""
    dead = release_dead_runs(context.instance)
    return dg.SkipReason(f"released {', '.join(dead)}" if dead else "the process of every running run is alive")


@dg.sensor(
    job_name=MEASURE,
    # The daemon evaluates sensors every five seconds; with an interval of 5 it would sometimes skip one evaluation.
    minimum_interval_seconds=1,
    default_status=default_status(),
    description="Registers complete checkpoints in watched locations, and measures every registered checkpoint that "
    "the study has not measured. Each tick lists checkpoints that are not ready, with the reason.",
)
def new_checkpoints(
    context: dg.SensorEvaluationContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.SensorResult:
    """Register and measure new checkpoints; see `automation.discovery`."""
    # Measured checkpoints are kept in a file because Dagster stores the cursor of every tick and this list grows.
    memory = {"done": home.measured.read(), **json.loads(context.cursor or "{}")}
    tick = Discovery(context.instance, study, home, memory, time.time()).scan()
    home.measured.write(tick.memory.pop("done"))
    for event in tick.events:
        report_check(context.instance, event)
    for line in tick.reasons:
        context.log.info(line)
    left_out = len(tick.reasons) - MOST_REASONS
    more = f"; and {left_out} more, see the log of this tick" if left_out > 0 else ""
    waiting = "; ".join(tick.reasons[:MOST_REASONS]) + more or "all checkpoints are measured"
    return dg.SensorResult(
        run_requests=tick.requests,
        skip_reason=None if tick.requests else waiting,
        dynamic_partitions_requests=[per_checkpoint.build_add_request(tick.registered)] if tick.registered else [],
        cursor=json.dumps(tick.memory),
    )
