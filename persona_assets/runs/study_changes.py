"""Tables that were computed for another version of the study, through all their inputs.

Dagster marks an asset as stale when its direct inputs or its code version change. A changed prompt therefore shows on
the responses, but on tables and reports only once the responses have been computed again. The asset check
`study_is_unchanged` shows what is found here. It needs no model and no PyTorch, unlike `runs.staleness`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from persona_assets.graph.history import latest_fingerprints
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import LIGHT_ASSETS, STUDY_CHECK
from persona_assets.graph.partitions import split_key
from persona_assets.graph.provenance import HEAVY, code_version, personas_of, study_part
from persona_assets.store.artefacts import ArtefactError
from persona_assets.study import Study

_MOST_SHOWN = 3


@dataclass
class Stale:
    """One table of the checkpoints for which it is out of date.

    Attributes:
        number: number of these checkpoints.
        checkpoints: names of the first of them.
        changes: the first changes in the study.
    """

    number: int = 0
    checkpoints: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def add(self, checkpoint: str, changes: Iterable[str]) -> None:
        """Add a checkpoint for which the table is out of date."""
        self.number += 1
        self.checkpoints = [*self.checkpoints, checkpoint][:_MOST_SHOWN]
        self.changes = list(dict.fromkeys([*self.changes, *changes]))[: _MOST_SHOWN + 1]

    def __str__(self) -> str:
        names = self.checkpoints + ([f"{self.number - _MOST_SHOWN} more"] if self.number > _MOST_SHOWN else [])
        changes = self.changes[:_MOST_SHOWN] + (["…"] if len(self.changes) > _MOST_SHOWN else [])
        return f"out of date for {', '.join(names)}; changed in the study: {', '.join(changes)}"


@dataclass
class StudyChanges:
    """Comparison of stored tables with a study; one object serves many checkpoints.

    Attributes:
        study: the study that tables should have been computed for.
    """

    instance: dg.DagsterInstance
    home: Home
    study: Study
    _parts: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def of_checkpoint(self, checkpoint: str) -> dict[str, list[str]]:
        """Return what changed in the study since each table was computed: table → changes, none if it is current.

        Tables that were never computed, or whose inputs were pruned, are left out.
        """
        found: dict[str, list[str]] = {}
        for asset in LIGHT_ASSETS:
            latest = latest_fingerprints(self.instance, asset, [checkpoint]).get(checkpoint)
            if latest is None:
                continue
            try:
                made_from = self.home.store.get(asset, latest).made_from
                changes = list(self._own(asset, made_from["code_version"]))
                for above, inputs in made_from["inputs"].items():
                    changes += self._heavy(above, inputs) if above in HEAVY else found.get(above, [])
            except (ArtefactError, KeyError):
                continue
            found[asset] = list(dict.fromkeys(changes))
        return found

    def _own(self, asset: str, recorded: str) -> Iterator[str]:
        if recorded != code_version(self.study, asset):
            yield f"settings or code of {asset}"

    def _heavy(self, asset: str, inputs: Mapping[str, str]) -> Iterator[str]:
        """Yield what differs between the study and what the personas' artefacts were computed from."""
        recorded = {split_key(key)[1]: fingerprint for key, fingerprint in inputs.items()}
        wanted = personas_of(self.study, asset)
        yield from (f"{persona} was added" for persona in wanted if persona not in recorded)
        yield from (f"{persona} was removed" for persona in recorded if persona not in wanted)
        for persona in wanted:
            if persona not in recorded:
                continue
            then = self.home.store.get(asset, recorded[persona]).made_from["study"]
            now = self._part(asset, persona)
            for name in {**then, **now}:
                if then.get(name) != now.get(name):
                    yield from _differences(name, persona, then.get(name), now.get(name))

    def _part(self, asset: str, persona: str) -> dict[str, Any]:
        if (asset, persona) not in self._parts:
            self._parts[asset, persona] = study_part(self.study, asset, persona)
        return self._parts[asset, persona]


def _differences(name: str, persona: str, then: Any, now: Any) -> Iterator[str]:
    if name == "prompt":
        yield f"prompt of {persona}"
    elif name in ("prompts", "target_prompts") and then and now:
        yield from (f"prompt of {each}" for each in now if each in then and then[each] != now[each])
    else:
        yield name.replace("_", " ")


def evaluation(asset: str, stale: Stale | None) -> dg.AssetCheckEvaluation:
    """Return the result of the check `study_is_unchanged` of one table, over all checkpoints.

    It has no partition: Dagster keeps only one result without a run for each partition.
    """
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=STUDY_CHECK,
        passed=stale is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=str(stale) if stale else "computed for the study as it is",
        metadata={"changed in the study": stale.changes, "checkpoints": stale.checkpoints} if stale else {},
    )
