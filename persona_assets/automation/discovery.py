"""Discovers new checkpoints: scans watched locations and the registry, registers checkpoints and requests runs."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from persona_assets.checkpoints import Checkpoint, CheckpointError, stamp
from persona_assets.checkpoints.scan import FoundCheckpoint, scan_watch
from persona_assets.checkpoints.watched import Watch
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT
from persona_assets.runs.attempts import ATTEMPT_TAG, Outlook, outlook, run_tags, runs_of
from persona_assets.runs.measure_job import measure_config
from persona_assets.study import Study

# Seconds between two scans of the same hub branch, to limit requests to the hub.
HUB_INTERVAL = 60.0
# Files whose sizes and times are unchanged after this many seconds are considered complete.
SETTLE = 2.0
MEASURED_CHECK = "measured_without_failure"

# A registry entry, or the error if it is invalid.
Entry = Checkpoint | CheckpointError


@dataclass
class Tick:
    """Result of one scan.

    Attributes:
        requests: runs to launch.
        registered: names of registered checkpoints that have no Dagster partition yet.
        events: check results of checkpoints that were measured or failed for good.
        reasons: one line per checkpoint that is not ready or failed.
        memory: state for the next scan: stamps of measured checkpoints, failure reasons, times of hub requests.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    events: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Discovery:
    """One scan of all watched locations and the registry.

    Attributes:
        memory: `Tick.memory` of the previous scan.
        now: the current time in seconds.
        settle: waits between the two stamps that show whether files are still being written.
    """

    instance: dg.DagsterInstance
    study: Study
    home: Home
    memory: dict[str, dict[str, Any]]
    now: float
    settle: Callable[[], None] = lambda: time.sleep(SETTLE)

    def scan(self) -> Tick:
        """Register complete checkpoints and request runs for those that have not been measured."""
        tick = Tick(memory={"done": {}, "failed": {}, "asked": dict(self.memory.get("asked", {}))})
        entries = self.home.registry.checked()  # parses the file, so called once
        new = [each for watch in self._due_watches(tick) for each in self._unregistered(watch, entries, tick)]
        stamps = {each.name: each.stamp for each in new}
        stamps |= {name: found for name in entries if (found := self._stamp(name, entries[name], tick))}
        due = self._due_attempts(stamps, tick)
        if due:
            self.settle()
        for each in new:
            try:
                if _stamp_of(each) == each.stamp:
                    self.home.registry.add(each.name, each.entry or {})
            except CheckpointError as error:
                tick.reasons.append(f"{each.name}: {error}")
        if new or due:
            entries = self.home.registry.checked()
        for name, attempt in due.items():
            if name in entries and self._stamp(name, entries[name], tick) == stamps[name]:
                tick.requests.append(self._request(name, stamps[name], attempt))
            else:
                tick.reasons.append(f"{name}: its files are still changing; it is measured once they stop changing")
        known = set(self.instance.get_dynamic_partitions(CHECKPOINT))
        tick.registered = [name for name in entries if name not in known]
        return tick

    def _due_watches(self, tick: Tick) -> list[Watch]:
        """Return all directory watches, and the hub watches whose last request was at least HUB_INTERVAL ago."""
        try:
            watches = self.home.watched.all()
        except CheckpointError as error:
            tick.reasons.append(str(error))
            return []
        asked = tick.memory["asked"]
        due = [each for each in watches if not each.hub or self.now - asked.get(each.name, 0.0) >= HUB_INTERVAL]
        asked |= {each.name: self.now for each in due if each.hub}
        return due

    def _unregistered(self, watch: Watch, entries: Mapping[str, Entry], tick: Tick) -> list[FoundCheckpoint]:
        """Return the complete checkpoints of a watch that are not registered yet."""
        try:
            found = scan_watch(watch, self.home.registry)
        except CheckpointError as error:
            tick.reasons.append(f"{watch.name}: {error}")
            return []
        tick.reasons += [f"{each.name}: {each.problem}" for each in found if each.problem]
        return [each for each in found if each.entry is not None and each.name not in entries]

    def _stamp(self, name: str, entry: Entry, tick: Tick) -> str | None:
        """Return the stamp of a registered checkpoint's files, or None if it cannot be measured."""
        try:
            if isinstance(entry, CheckpointError):
                raise entry
            return None if entry.imported is not None else stamp(entry)
        except CheckpointError as error:
            if name not in self.memory.get("done", {}):  # a trainer may delete measured checkpoints
                tick.reasons.append(f"{name}: {error}")
            else:
                tick.memory["done"][name] = self.memory["done"][name]
            return None

    def _due_attempts(self, stamps: Mapping[str, str], tick: Tick) -> dict[str, Outlook]:
        """Return the due attempt per checkpoint; measured checkpoints are remembered, to query their runs only once."""
        done = self.memory.get("done", {})
        known = {name for name, now in stamps.items() if done.get(name) == [now, self.study.name]}
        tick.memory["done"] |= {name: done[name] for name in known}
        unknown = {name: now for name, now in stamps.items() if name not in known}
        runs = runs_of(self.instance, self.study, unknown)
        outlooks = {name: self._outlook(name, now, runs[name], tick) for name, now in unknown.items()}
        return {name: attempt for name, attempt in outlooks.items() if attempt is not None}

    def _outlook(self, name: str, now_stamp: str, runs: Sequence[dg.RunRecord], tick: Tick) -> Outlook | None:
        """Return a checkpoint's due attempt, or None; record its state in the tick."""
        found = outlook(self.instance, self.study, runs, now_stamp, self.now)
        if found.what == "try":
            return found
        if found.what == "measured":
            tick.memory["done"][name] = [now_stamp, self.study.name]
            tick.events.append(_check(name, True, "measured"))
            return None
        tick.reasons.append(f"{name}: {found.why}")
        if found.what == "failed":
            tick.memory["failed"][name] = found.why
            if self.memory.get("failed", {}).get(name) != found.why:
                tick.events.append(_check(name, False, found.why))
        return None

    def _request(self, name: str, its_stamp: str, due: Outlook) -> dg.RunRequest:
        tags = run_tags(self.study, name, its_stamp)
        return dg.RunRequest(
            run_key=" ".join([*tags.values(), str(due.attempt)]),
            run_config=measure_config(name),
            tags={**tags, ATTEMPT_TAG: str(due.attempt)},
        )


def _stamp_of(found: FoundCheckpoint) -> str:
    return stamp(Checkpoint.model_validate({"name": found.name, **(found.entry or {})}))


def _check(name: str, passed: bool, why: str) -> dg.AssetCheckEvaluation:
    """Return a check result, which Dagster shows on the checkpoint's page."""
    return dg.AssetCheckEvaluation(
        check_name=MEASURED_CHECK,
        asset_key=dg.AssetKey("model_checkpoint"),
        passed=passed,
        partition=name,
        description=why,
        metadata={"checkpoint": name},
    )
