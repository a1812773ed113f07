"""Shows edits of the study's file in Dagster's page, also while the code location still has the study as it was."""

import time
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from persona_assets.graph.home import Home
from persona_assets.graph.jobs import LIGHT_ASSETS
from persona_assets.graph.partitions import RELOAD
from persona_assets.runs.attempts import study_digest
from persona_assets.runs.events import prompt_events
from persona_assets.runs.study_changes import Stale, StudyChanges, evaluation
from persona_assets.study import Study, StudyError
from persona_assets.study.files import load_study

# Seconds that one look may take; checkpoints that are left over follow in the next one.
BUDGET = 5.0


@dataclass
class Look:
    """Result of one look at the study's file.

    Attributes:
        what: one sentence for the sensor's tick.
        events: changed prompts, and results of the check `study_is_unchanged`.
        memory: state for the next look, see `EditedStudy.compare`.
    """

    what: str
    events: list[dg.AssetObservation | dg.AssetMaterialization | dg.AssetCheckEvaluation] = field(default_factory=list)
    memory: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EditedStudy:
    """The study's file beside the study that this code location loaded.

    Attributes:
        loaded: the study of the definitions.
        budget: seconds that one look may take.
    """

    instance: dg.DagsterInstance
    home: Home
    loaded: Study
    budget: float = BUDGET

    def look(self, memory: dict[str, Any]) -> Look:
        """Return the events that bring Dagster's page up to date.

        Args:
            memory: `Look.memory` of the previous look.
        """
        try:
            study = load_study()
        except StudyError as error:
            return Look(f"the study's file is invalid, so the page shows the study as it was: {error}", memory=memory)
        # Dagster does not know the partitions of new personas before the definitions are reloaded.
        known = {name: about for name, about in study.personas.items() if name in self.loaded.personas}
        prompts = prompt_events(self.instance, study.model_copy(update={"personas": known}))
        checks, memory = ([], {"left": []}) if study.imported else self.compare(study, memory)
        if study_digest(study) != study_digest(self.loaded):
            what = f"study {study.name} changed since the definitions were loaded: {RELOAD}"
        elif memory["left"]:
            what = f"comparing tables with study {study.name}: {len(memory['left'])} checkpoints left"
        else:
            what = "the definitions have the study as it is in its file"
        return Look(what, [*prompts, *checks], memory)

    def compare(self, study: Study, memory: dict[str, Any]) -> tuple[list[dg.AssetCheckEvaluation], dict[str, Any]]:
        """Compare the tables of all checkpoints with the study after an edit, and again after tables were computed.

        Returns:
            Check results once all checkpoints are compared, and the new memory: digest of the study, number of the
            newest table when the comparison began, checkpoints left, what was found so far, tables last reported stale.
        """
        digest, newest, start = study_digest(study), self._newest_table(), time.monotonic()
        failing = memory.get("failing", [])
        edited = memory.get("study") != digest
        if edited or (not memory["left"] and failing and memory["newest"] != newest):
            memory = {"study": digest, "newest": newest, "left": self.home.registry.names(), "found": {}}
        elif not memory["left"]:
            return [], memory
        left, found = list(memory["left"]), {asset: Stale(**about) for asset, about in memory["found"].items()}
        changes = StudyChanges(self.instance, self.home, study)
        while left and time.monotonic() - start < self.budget:
            name = left.pop(0)
            for asset, changed in changes.of_checkpoint(name).items():
                if changed:
                    found.setdefault(asset, Stale()).add(name, changed)
        memory = {**memory, "left": left, "found": {asset: vars(about) for asset, about in found.items()}}
        if left:
            return [], {**memory, "failing": failing}
        reported = [evaluation(asset, found.get(asset)) for asset in LIGHT_ASSETS if asset in found or asset in failing]
        return reported, {**memory, "failing": list(found)}

    def _newest_table(self) -> int:
        """Return the number of the newest materialisation of any table."""
        newest = [self.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records for asset in LIGHT_ASSETS]
        return max((record.storage_id for records in newest for record in records), default=0)
