"""Whether to measure a checkpoint now: already measured, under way, due, waiting to be retried, or failed for good.

The state is derived from Dagster's runs alone, so a daemon that restarts neither forgets an attempt nor repeats one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import dagster as dg

from persona_assets.files.digest import digest_of
from persona_assets.graph.processes import CHECKPOINT_TAG
from persona_assets.study import Study

MEASURE = "measure_checkpoint"
STAMP_TAG = "persona_assets/stamp"
STUDY_TAG, STUDY_DIGEST_TAG = "persona_assets/study", "persona_assets/study_digest"
ATTEMPT_TAG, SAME_AS_TAG = "persona_assets/attempt", "persona_assets/same_as"
# Seconds to wait after the first and the second failure; there is no retry after the third.
BACKOFF = (30.0, 120.0)
_OVER = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


@dataclass(frozen=True)
class Outlook:
    """State of a checkpoint's measurement.

    Attributes:
        what: the state.
        why: its reason in words; may be empty.
        attempt: number of the next attempt, from 1.
    """

    what: Literal["measured", "under way", "try", "wait", "failed", "cancelled"]
    why: str
    attempt: int = 1


def study_digest(study: Study) -> str:
    """Return the digest of all of the study's settings."""
    return digest_of(study.model_dump(mode="json"))


def run_tags(study: Study, checkpoint: str, stamp: str) -> dict[str, str]:
    """Return the tags of a run that measures a checkpoint."""
    return {
        CHECKPOINT_TAG: checkpoint,
        STAMP_TAG: stamp,
        STUDY_TAG: study.name,
        STUDY_DIGEST_TAG: study_digest(study),
    }


def runs_of(instance: dg.DagsterInstance, study: Study, checkpoints: Iterable[str]) -> dict[str, list[dg.RunRecord]]:
    """Return the measurement runs of each checkpoint, newest first, with a single query."""
    found: dict[str, list[dg.RunRecord]] = {checkpoint: [] for checkpoint in checkpoints}
    if found:
        tags: dict[str, str | list[str]] = {CHECKPOINT_TAG: list(found), STUDY_TAG: study.name}
        for record in instance.get_run_records(dg.RunsFilter(job_name=MEASURE, tags=tags)):
            found[record.dagster_run.tags[CHECKPOINT_TAG]].append(record)
    return found


def outlook(
    instance: dg.DagsterInstance, study: Study, records: Sequence[dg.RunRecord], stamp: str, now: float
) -> Outlook:
    """Decide from its runs so far whether a checkpoint has to be measured.

    A successful run of a study with this name counts even if the study was edited afterwards: Dagster's page shows what
    the edit made stale, and the nightly schedule recomputes it.

    Args:
        records: the checkpoint's runs from `runs_of`, newest first.
        stamp: stamp of the checkpoint's files; runs of files with another stamp do not count.
        now: current time in seconds since the epoch.
    """
    for record in records:
        if record.dagster_run.status not in _OVER:
            return Outlook("under way", f"run {record.dagster_run.run_id} is {record.dagster_run.status.value}")
    of_these = [record for record in records if record.dagster_run.tags.get(STAMP_TAG) == stamp]
    if any(record.dagster_run.status == dg.DagsterRunStatus.SUCCESS for record in of_these):
        return Outlook("measured", "")
    tried = [
        record
        for record in of_these
        if record.dagster_run.tags.get(STUDY_DIGEST_TAG) == study_digest(study)
        and ATTEMPT_TAG in record.dagster_run.tags
    ]
    if not tried:
        return Outlook("try", "not measured yet")
    newest = tried[0]
    if newest.dagster_run.status == dg.DagsterRunStatus.CANCELED:
        return Outlook("cancelled", f"run {newest.dagster_run.run_id} was cancelled; launch {MEASURE} to measure it")
    failures = len(tried)
    why = failure_of(instance, newest.dagster_run.run_id)
    if failures > len(BACKOFF):
        return Outlook("failed", f"failed {failures} times, last: {why}", failures)
    left = (newest.end_time or newest.update_timestamp.timestamp()) + BACKOFF[failures - 1] - now
    if left > 0:
        return Outlook("wait", f"attempt {failures} failed: {why}; retry in {left:.0f} s", failures + 1)
    return Outlook("try", f"attempt {failures} failed: {why}", failures + 1)


def failure_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return why a run failed, in one line: the root cause of a step's error, or else Dagster's message for the run."""
    steps = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    for entry in steps:
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        error = getattr(data, "error", None)
        if error is not None:
            return _root_cause(error)
    runs = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    for entry in runs:  # before the first step
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        if (error := getattr(data, "error", None)) is not None:
            return _root_cause(error)
    messages = [entry.user_message or (entry.dagster_event.message if entry.dagster_event else "") for entry in runs]
    return " ".join((messages[-1] or "").split())[:500] if messages else "no reason was recorded"


def _root_cause(error: Any) -> str:
    while error.cause is not None:
        error = error.cause
    return " ".join(error.message.split())[:500]
