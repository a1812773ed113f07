"""One look at the watched places and the registry: what is registered now, what is to run, who waits and why."""

from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from persona_assets.arrivals import arrivals_in
from persona_assets.checkpoint import CheckpointError, stamp
from persona_assets.orchestration.attempts import ATTEMPT_TAG, outlook, run_tags
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.measuring import measure_config
from persona_assets.orchestration.partitions import CHECKPOINT
from persona_assets.study import Study
from persona_assets.watched import Watch

# Asking a hub costs somebody else's server a request.
HUB_INTERVAL = 60.0
MEASURED_CHECK = "measured_without_failure"


@dataclass
class Tick:
    """What came of one look.

    Attributes:
        reasons: a line for each checkpoint that waits or failed.
        memory: for the next look: stamps of what was seen and measured, why others failed, when hubs were asked.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    registered: list[str] = field(default_factory=list)
    events: list[dg.AssetCheckEvaluation] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    memory: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Arriving:
    """Looks at everything once; `memory` is what the look before left, and `now` the time in seconds."""

    instance: dg.DagsterInstance
    study: Study
    home: Home
    memory: dict[str, dict[str, Any]]
    now: float

    def look(self) -> Tick:
        """Registers what is complete and asks for runs of what is not measured."""
        tick = Tick(memory={"seen": {}, "done": {}, "asked": dict(self.memory.get("asked", {}))})
        try:
            watches = self.home.watched.all()
        except CheckpointError as error:
            watches, tick.reasons = [], [str(error)]
        for watch in watches:
            try:
                self._register(watch, tick)
            except CheckpointError as error:
                tick.reasons.append(f"{watch.name}: {error}")
        known = set(self.instance.get_dynamic_partitions(CHECKPOINT))
        for name in self.home.registry.names():
            try:
                self._request(name, tick)
            except CheckpointError as error:
                tick.reasons.append(f"{name}: {error}")
        tick.registered = [name for name in self.home.registry.names() if name not in known]
        return tick

    def _register(self, watch: Watch, tick: Tick) -> None:
        if watch.hub:
            if self.now - tick.memory["asked"].get(watch.name, 0.0) < HUB_INTERVAL:
                return
            tick.memory["asked"][watch.name] = self.now
        for arrival in arrivals_in(watch, self.home.registry):
            if arrival.waits or arrival.entry is None:
                tick.reasons.append(f"{arrival.name}: {arrival.waits}")
            elif watch.directory and self.memory.get("seen", {}).get(arrival.name) != arrival.stamp:
                tick.reasons.append(f"{arrival.name}: is complete; measured once its files have stopped changing")
            else:
                self.home.registry.add(arrival.name, arrival.entry)
            if watch.directory:
                tick.memory["seen"][arrival.name] = arrival.stamp

    def _request(self, name: str, tick: Tick) -> None:
        checkpoint = self.home.registry.get(name)
        if checkpoint.imported is not None:
            return
        now_stamp = stamp(checkpoint)
        seen = tick.memory["seen"].get(name)
        if seen is not None and seen != self.memory.get("seen", {}).get(name):
            return  # a watched folder that is being written again
        done = self.memory.get("done", {}).get(name)
        if done == [now_stamp, self.study.name]:
            tick.memory["done"][name] = done
            return
        found = outlook(self.instance, self.study, name, now_stamp, self.now)
        if found.what == "measured":
            tick.memory["done"][name] = [now_stamp, self.study.name]
            tick.events.append(_check(name, True, "measured"))
        elif found.what == "try":
            tags = run_tags(self.study, name, now_stamp)
            tick.requests.append(
                dg.RunRequest(
                    run_key=" ".join([*tags.values(), str(found.attempt)]),
                    run_config=measure_config(name),
                    tags={**tags, ATTEMPT_TAG: str(found.attempt)},
                )
            )
        else:
            tick.reasons.append(f"{name}: {found.why}")
            failed = self.memory.get("failed", {}).get(name)
            if found.what == "failed":
                tick.memory.setdefault("failed", {})[name] = found.why
                if failed != found.why:
                    tick.events.append(_check(name, False, found.why))


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
