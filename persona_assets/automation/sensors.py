"""What looks after the instance by itself: files that people edit, runs that died, checkpoints that arrive."""

import json
import os
import time

import dagster as dg

from persona_assets.automation.discovery import Arriving
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import per_checkpoint
from persona_assets.graph.processes import release_dead_runs
from persona_assets.runs.attempts import MEASURE
from persona_assets.runs.events import new_checkpoints as unknown_to_dagster
from persona_assets.runs.events import prompt_events
from persona_assets.study import Study

# Set by `persona-assets ui --automate`; without it a person turns sensors and the schedule on in the page.
AUTOMATE = "PERSONA_ASSETS_AUTOMATE"
SAID = 20  # checkpoints that a skipped tick names


def off_until_asked() -> dg.DefaultSensorStatus:
    """Running where a person asked for automation when starting the page, else stopped."""
    return dg.DefaultSensorStatus.RUNNING if os.environ.get(AUTOMATE) else dg.DefaultSensorStatus.STOPPED


@dg.sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports changed prompts of the study and new checkpoints of the registry. Launches no run.",
)
def study_and_registry(
    context: dg.SensorEvaluationContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.SensorResult | dg.SkipReason:
    """Keeps the page up to date with the files that people edit."""
    new, events = unknown_to_dagster(context.instance, home), prompt_events(context.instance, study)
    if not new and not events:
        return dg.SkipReason("the page knows every prompt of the study and every registered checkpoint")
    requests = [per_checkpoint.build_add_request(new)] if new else []
    return dg.SensorResult(asset_events=events, dynamic_partitions_requests=requests)


@dg.sensor(
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fails runs whose process was killed and frees their slots in the pool. Launches no run.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Reaps what dead processes left; see `graph.processes`."""
    dead = release_dead_runs(context.instance)
    return dg.SkipReason(f"released {', '.join(dead)}" if dead else "every run that is under way has a living process")


@dg.sensor(
    job_name=MEASURE,
    # Every time that the daemon looks, which is every five seconds; 5 here would now and then be every ten.
    minimum_interval_seconds=1,
    default_status=off_until_asked(),
    description="Registers checkpoints that are complete in the watched places, and measures every registered "
    "checkpoint that the study has not measured. A tick says who waits and why.",
)
def new_checkpoints(
    context: dg.SensorEvaluationContext, study: dg.ResourceParam[Study], home: dg.ResourceParam[Home]
) -> dg.SensorResult:
    """Measures checkpoints as they arrive; see `automation.discovery`."""
    # What is measured is remembered in a file: Dagster keeps the cursor of every tick, and this grows with checkpoints.
    memory = {"done": home.measured.read(), **json.loads(context.cursor or "{}")}
    tick = Arriving(context.instance, study, home, memory, time.time()).look()
    home.measured.write(tick.memory.pop("done"))
    for line in tick.reasons:
        context.log.info(line)
    more = f"; and {len(tick.reasons) - SAID} more, in the tick's log" if len(tick.reasons) > SAID else ""
    waiting = "; ".join(tick.reasons[:SAID]) + more or "every checkpoint is measured"
    return dg.SensorResult(
        run_requests=tick.requests,
        skip_reason=None if tick.requests else waiting,
        asset_events=tick.events,
        dynamic_partitions_requests=[per_checkpoint.build_add_request(tick.registered)] if tick.registered else [],
        cursor=json.dumps(tick.memory),
    )
