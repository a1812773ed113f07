"""One look at the watched places and the registry: what is registered now, what is to run, who waits and why."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from persona_assets.checkpoints import Checkpoint, CheckpointError, stamp
from persona_assets.checkpoints.scan import Arrival, arrivals_in
from persona_assets.checkpoints.watched import Watch
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import CHECKPOINT
from persona_assets.runs.attempts import ATTEMPT_TAG, Outlook, outlook, run_tags, runs_of
from persona_assets.runs.measure_job import measure_config
from persona_assets.study import Study

# Asking a hub costs somebody else's server a request.
HUB_INTERVAL = 60.0
# Files whose sizes and times are the same after so many seconds are not being written.
SETTLE = 2.0
MEASURED_CHECK = "measured_without_failure"

# What the registry says under a name, or why that is nothing.
Entry = Checkpoint | CheckpointError


@dataclass
class Tick:
    """What came of one look.

    Attributes:
        registered: names that Dagster has no partition for yet.
        reasons: a line for each checkpoint that waits or failed.
        memory: for the next look: stamps of what is measured, why others failed, when hubs were asked.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    events: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Arriving:
    """Looks at everything once; `memory` is what the look before left, and `now` the time in seconds.

    `settle` waits while files that are new to us may change.
    """

    instance: dg.DagsterInstance
    study: Study
    home: Home
    memory: dict[str, dict[str, Any]]
    now: float
    settle: Callable[[], None] = lambda: time.sleep(SETTLE)

    def look(self) -> Tick:
        """Registers what is complete and asks for runs of what is not measured."""
        tick = Tick(memory={"done": {}, "failed": {}, "asked": dict(self.memory.get("asked", {}))})
        entries = self.home.registry.checked()  # once: the file is parsed every time
        arrived = [each for watch in self._watches(tick) for each in self._arrivals(watch, entries, tick)]
        stamps = {each.name: each.stamp for each in arrived}
        stamps |= {name: found for name in entries if (found := self._stamp(name, entries[name], tick))}
        trials = self._trials(stamps, tick)
        if trials:
            self.settle()
        for each in arrived:
            try:
                if _stamp_of(each) == each.stamp:
                    self.home.registry.add(each.name, each.entry or {})
            except CheckpointError as error:
                tick.reasons.append(f"{each.name}: {error}")
        if arrived or trials:
            entries = self.home.registry.checked()
        for name, trial in trials.items():
            if name in entries and self._stamp(name, entries[name], tick) == stamps[name]:
                tick.requests.append(self._request(name, stamps[name], trial))
            else:
                tick.reasons.append(f"{name}: its files are changing; measured once they have stopped")
        known = set(self.instance.get_dynamic_partitions(CHECKPOINT))
        tick.registered = [name for name in entries if name not in known]
        return tick

    def _watches(self, tick: Tick) -> list[Watch]:
        try:
            watches = self.home.watched.all()
        except CheckpointError as error:
            tick.reasons.append(str(error))
            return []
        asked = tick.memory["asked"]
        due = [each for each in watches if not each.hub or self.now - asked.get(each.name, 0.0) >= HUB_INTERVAL]
        asked |= {each.name: self.now for each in due if each.hub}
        return due

    def _arrivals(self, watch: Watch, entries: Mapping[str, Entry], tick: Tick) -> list[Arrival]:
        """What is complete there and not registered yet."""
        try:
            found = arrivals_in(watch, self.home.registry)
        except CheckpointError as error:
            tick.reasons.append(f"{watch.name}: {error}")
            return []
        tick.reasons += [f"{each.name}: {each.waits}" for each in found if each.waits]
        return [each for each in found if each.entry is not None and each.name not in entries]

    def _stamp(self, name: str, entry: Entry, tick: Tick) -> str | None:
        """The stamp of a registered checkpoint's files; None where there is nothing to measure."""
        try:
            if isinstance(entry, CheckpointError):
                raise entry
            return None if entry.imported is not None else stamp(entry)
        except CheckpointError as error:
            if name not in self.memory.get("done", {}):  # a trainer may delete what was measured
                tick.reasons.append(f"{name}: {error}")
            else:
                tick.memory["done"][name] = self.memory["done"][name]
            return None

    def _trials(self, stamps: Mapping[str, str], tick: Tick) -> dict[str, Outlook]:
        """The attempts that are due; what is measured is remembered, and asked about once."""
        done = self.memory.get("done", {})
        known = {name for name, now in stamps.items() if done.get(name) == [now, self.study.name]}
        tick.memory["done"] |= {name: done[name] for name in known}
        open_ones = {name: now for name, now in stamps.items() if name not in known}
        runs = runs_of(self.instance, self.study, open_ones)
        outlooks = {name: self._outlook(name, now, runs[name], tick) for name, now in open_ones.items()}
        return {name: trial for name, trial in outlooks.items() if trial is not None}

    def _outlook(self, name: str, now_stamp: str, runs: Sequence[dg.RunRecord], tick: Tick) -> Outlook | None:
        """The attempt that is due for a checkpoint, if one is; what else there is to say goes into the tick."""
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

    def _request(self, name: str, its_stamp: str, trial: Outlook) -> dg.RunRequest:
        tags = run_tags(self.study, name, its_stamp)
        return dg.RunRequest(
            run_key=" ".join([*tags.values(), str(trial.attempt)]),
            run_config=measure_config(name),
            tags={**tags, ATTEMPT_TAG: str(trial.attempt)},
        )


def _stamp_of(arrival: Arrival) -> str:
    return stamp(Checkpoint.model_validate({"name": arrival.name, **(arrival.entry or {})}))


def _check(name: str, passed: bool, why: str) -> dg.AssetCheckEvaluation:
    """Marks the checkpoint in the page, where Dagster shows what checks say."""
    return dg.AssetCheckEvaluation(
        check_name=MEASURED_CHECK,
        asset_key=dg.AssetKey("model_checkpoint"),
        passed=passed,
        partition=name,
        description=why,
        metadata={"checkpoint": name},
    )
