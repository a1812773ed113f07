"""Posts a line to a webhook when a checkpoint's report is ready or its measurement failed.

PERSONA_ASSETS_WEBHOOK is the webhook's URL; the payload is `{"text": …}`, as chat services expect. These are sensors
rather than job hooks because a killed process runs no hooks.
"""

import json
import os
import urllib.error
import urllib.request
from functools import partial

import dagster as dg

from persona_assets.files.redaction import redact
from persona_assets.graph.page_urls import asset_address, run_address
from persona_assets.graph.processes import CHECKPOINT_TAG
from persona_assets.runs.attempts import ATTEMPT_TAG, SAME_AS_TAG, STUDY_TAG, failure_of

WEBHOOK = "PERSONA_ASSETS_WEBHOOK"
SCHEDULE_TAG = "dagster/schedule_name"  # set by Dagster on runs of a schedule
TIMEOUT = 10.0


def build_notifiers(measure: dg.JobDefinition) -> list[dg.RunStatusSensorDefinition]:
    """Return a sensor for finished reports and one for failed runs; both start enabled if a webhook is set."""
    notifier = partial(
        dg.run_status_sensor,
        monitored_jobs=[measure],
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING if os.environ.get(WEBHOOK) else dg.DefaultSensorStatus.STOPPED,
    )

    @notifier(
        dg.DagsterRunStatus.SUCCESS,
        description="Posts that a checkpoint's report is ready to PERSONA_ASSETS_WEBHOOK.",
    )
    def report_ready(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        tags = context.dagster_run.tags
        checkpoint, study = tags.get(CHECKPOINT_TAG, ""), tags.get(STUDY_TAG)
        if SCHEDULE_TAG in tags:
            return dg.SkipReason(f"{checkpoint}: run by the nightly schedule, of which only failures are posted")
        if twin := tags.get(SAME_AS_TAG):
            return post(
                f"{checkpoint}: same weights as {twin}, so nothing was computed: {asset_address('report', twin)}"
            )
        return post(f"{checkpoint}: report of study {study} is ready: {asset_address('report', checkpoint)}")

    @notifier(
        dg.DagsterRunStatus.FAILURE,
        description="Posts that measuring a checkpoint failed to PERSONA_ASSETS_WEBHOOK.",
    )
    def measurement_failed(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
        run = context.dagster_run
        attempt = f" (attempt {run.tags[ATTEMPT_TAG]})" if ATTEMPT_TAG in run.tags else ""
        why = failure_of(context.instance, run.run_id)
        return post(f"{run.tags.get(CHECKPOINT_TAG)}: failed{attempt}: {why} {run_address(run.run_id)}")

    return [report_ready, measurement_failed]


def post(line: str) -> dg.SkipReason | None:
    """Post a line to the webhook; if that fails, return a skip reason instead of raising."""
    line = redact(line)  # error messages may contain secrets, and chats have many readers
    address = os.environ.get(WEBHOOK)
    if not address:
        return dg.SkipReason(f"{WEBHOOK} is not set; would have posted: {line}")
    if not address.startswith(("http://", "https://")):
        return dg.SkipReason(f"{WEBHOOK}: expected a URL that begins with http:// or https://")
    body = json.dumps({"text": line}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT):
            return None
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        # The URL may contain a secret, so it is not logged.
        return dg.SkipReason(f"{WEBHOOK}: posting failed ({type(error).__name__}): {line}")
