"""Discovers new checkpoints: scans watched locations and the registry, registers checkpoints and requests runs."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from persona_assets.checkpoints import Checkpoint, CheckpointError, stamp
from persona_assets.checkpoints.scan import FoundCheckpoint, Scan
from persona_assets.checkpoints.watched import Watch
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT
from persona_assets.runs.attempts import ATTEMPT_TAG, Outlook, outlook, run_tags, runs_of
from persona_assets.runs.measure_job import measure_config
from persona_assets.study import Study

# Seconds between two scans of the same hub branch, to limit requests to the hub.
HUB_INTERVAL = 60.0
# Seconds for all requests to hubs in one tick; Dagster gives up on a tick after 60.
HUB_SECONDS = 12.0
# Files whose sizes and times are unchanged after this many seconds are considered complete.
SETTLE = 2.0
# At most this many new checkpoints are registered in one tick, and inspected for at most this many seconds.
MOST_NEW, INSPECTION_SECONDS = 100, 10.0
# Seconds without any change after which an incomplete folder is reported as a failure.
STUCK = 1800.0
MEASURED_CHECK = "measured_without_failure"

# A registry entry, or the error if it is invalid.
Entry = Checkpoint | CheckpointError


@dataclass
class Tick:
    """Result of one scan.

    Attributes:
        requests: runs to launch.
        registered: names of registered checkpoints that have no Dagster partition yet.
        events: check results of checkpoints that were measured, refused or failed for good.
        reasons: one line per checkpoint that is not ready or failed.
        memory: state for the next scan: stamps of measured checkpoints, failure reasons, times of hub requests, and
            folders that are refused or incomplete.
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
        empty: dict[str, dict[str, Any]] = {"done": {}, "failed": {}, "refused": {}, "incomplete": {}}
        tick = Tick(memory={**empty, "asked": dict(self.memory.get("asked", {}))})
        entries = self.home.registry.checked()  # parses the file, so called once
        new = self._new(entries, tick)
        stamps = {each.name: each.stamp for each in new}
        stamps |= {name: found for name in entries if (found := self._stamp(name, entries[name], tick))}
        due = self._due_attempts(stamps, tick)
        if due:
            self.settle()
        left = self._register([each for each in new if _stamp_of(each) == each.stamp], tick)
        if new or due:
            entries = self.home.registry.checked()
        for name, attempt in due.items():
            if name in entries and self._stamp(name, entries[name], tick) == stamps[name]:
                tick.requests.append(self._request(name, stamps[name], attempt))
            elif name not in tick.memory["refused"] and name not in left:
                tick.reasons.append(f"{name}: its files are still changing; it is measured once they stop changing")
        known = set(self.instance.get_dynamic_partitions(CHECKPOINT))
        tick.registered = [name for name in entries if name not in known]
        return tick

    def _new(self, entries: Mapping[str, Entry], tick: Tick) -> list[FoundCheckpoint]:
        """Return complete checkpoints that are not registered yet: those of directories, then those of hubs."""
        registered = {name: entry for name, entry in entries.items() if isinstance(entry, Checkpoint)}
        scan = Scan(registered, self.home.registry.removed(), time.monotonic() + HUB_SECONDS)
        found = [each for watch in self._due_watches(tick, scan) for each in self._scan(scan, watch, tick)]
        ready = [each for each in found if self._is_ready(each, tick) and each.name not in entries]
        if len(ready) > MOST_NEW:
            tick.reasons.append(f"{len(ready) - MOST_NEW} more new checkpoints are left to the next ticks")
        return ready[:MOST_NEW]

    def _due_watches(self, tick: Tick, scan: Scan) -> Iterator[Watch]:
        """Yield all directory watches, then the hub watches in turn, as long as there is time for requests."""
        try:
            watches = self.home.watched.all()
        except CheckpointError as error:
            tick.reasons.append(str(error))
            return
        yield from (watch for watch in watches if not watch.hub)
        asked = tick.memory["asked"]
        hubs = [each for each in watches if each.hub and self.now - asked.get(each.name, 0.0) >= HUB_INTERVAL]
        for watch in sorted(hubs, key=lambda each: asked.get(each.name, 0.0)):
            if scan.until is not None and time.monotonic() >= scan.until:
                tick.reasons.append(f"{watch.name}: not looked up in this tick, since other hubs took too long")
            else:
                asked[watch.name] = self.now
                yield watch

    def _scan(self, scan: Scan, watch: Watch, tick: Tick) -> list[FoundCheckpoint]:
        try:
            return scan.new(watch)
        except CheckpointError as error:
            tick.reasons.append(f"{watch.name}: {error}")
            return []

    def _is_ready(self, found: FoundCheckpoint, tick: Tick) -> bool:
        """Return whether a checkpoint is complete and not refused; report it if waiting for it is useless."""
        if self.memory.get("refused", {}).get(found.name, [""])[0] == found.stamp != "":
            self._refuse(found, self.memory["refused"][found.name][1], tick)
            return False
        if found.problem is None:
            return True
        if found.final:
            self._refuse(found, found.problem, tick)
            return False
        what, since = self.memory.get("incomplete", {}).get(found.name, (None, self.now))
        since = since if what == [found.stamp, found.problem] else self.now
        tick.memory["incomplete"][found.name] = [[found.stamp, found.problem], since]
        if self.now - since >= STUCK:
            self._refuse(found, f"incomplete, and unchanged for {STUCK / 60:.0f} minutes: {found.problem}", tick)
        else:
            tick.reasons.append(f"{found.name}: {found.problem}")
        return False

    def _refuse(self, found: FoundCheckpoint, why: str, tick: Tick) -> None:
        """Report a checkpoint that cannot be measured: as a failed check once, and in every tick's reasons."""
        tick.reasons.append(f"{found.name}: {why}")
        tick.memory["refused"][found.name] = [found.stamp, why]
        if self.memory.get("refused", {}).get(found.name, ["", ""])[1] != why:
            tick.events.append(_check(found.name, False, why))

    def _register(self, new: Sequence[FoundCheckpoint], tick: Tick) -> set[str]:
        """Register the checkpoints that pass inspection; return the names that are left to the next tick."""
        from persona_assets.inference.inspection import refusal  # imports PyTorch

        accepted: dict[str, Mapping[str, str | int]] = {}
        left, until = set(), time.monotonic() + INSPECTION_SECONDS
        for each in new:
            if accepted and time.monotonic() >= until:
                tick.reasons.append(f"{each.name}: inspected in the next tick")
                left.add(each.name)
            elif (why := refusal(_checkpoint(each))) is not None:
                self._refuse(each, why, tick)
            else:
                accepted[each.name] = each.entry or {}
        try:
            self.home.registry.add_all(accepted)
        except CheckpointError as error:
            tick.reasons.append(str(error))
        return left

    def _stamp(self, name: str, entry: Entry, tick: Tick) -> str | None:
        """Return the stamp of a registered checkpoint's files, or None if it cannot be measured."""
        try:
            if isinstance(entry, CheckpointError):
                raise entry
            return None if entry.imported is not None else stamp(entry)
        except CheckpointError as error:
            if name not in self.memory.get("done", {}):  # a trainer may delete measured checkpoints
                gone = entry.gone() if isinstance(entry, Checkpoint) else None
                tick.reasons.append(f"{name}: {f'{gone} is gone; what was measured stays stored' if gone else error}")
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


def _checkpoint(found: FoundCheckpoint) -> Checkpoint:
    return Checkpoint.model_validate({"name": found.name, **(found.entry or {})})


def _stamp_of(found: FoundCheckpoint) -> str | None:
    try:
        return stamp(_checkpoint(found))
    except CheckpointError:  # deleted meanwhile
        return None


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
