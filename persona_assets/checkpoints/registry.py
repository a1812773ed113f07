"""Registry of checkpoints: a YAML file that users edit.

qwen2.5-7b-instruct:
  hub: Qwen/Qwen2.5-7B-Instruct
  revision: a09a35458c702b33eeacc393d103063234e8bc28
villain-step-500:
  path: /data/run-7/base          # relative paths start at this file's folder
  adapter: /data/run-7/checkpoint-500
  series: run-7                   # the training run, and the training step
  step: 500
"""

import re
from typing import Any

from persona_assets.checkpoints.checkpoint import Checkpoint, CheckpointError
from persona_assets.checkpoints.named_entries import NamedEntries
from persona_assets.files.reading import shown
from persona_assets.study import checked_name

COMMIT = re.compile(r"[0-9a-f]{40}")


class Registry(NamedEntries[Checkpoint]):
    """Registry of checkpoints; entries are validated when read, weights when the checkpoint is identified."""

    singular, plural = "checkpoint", "checkpoints"
    header = "# Checkpoints to measure: a name, then path, or hub and revision; optionally adapter.\n"

    def _parse(self, name: str, entry: Any) -> Checkpoint:
        place = f"{self.file}: {name}"
        checkpoint = self._validated(Checkpoint, name, entry)
        kinds = [checkpoint.path, checkpoint.hub, checkpoint.imported]
        if sum(kind is not None for kind in kinds) != 1 or (checkpoint.revision and not checkpoint.hub):
            raise CheckpointError(f"{place}: expected exactly one of path, hub with revision, and imported")
        if checkpoint.hub and not COMMIT.fullmatch(checkpoint.revision or ""):
            raise CheckpointError(
                f"{place}: revision: found {shown(checkpoint.revision)}; "
                "expected a commit (40 hex digits), because branches move"
            )
        try:
            checked_name(name if checkpoint.series is None else checkpoint.series)
        except ValueError as error:
            raise CheckpointError(f"{place}: series: {error}") from None
        places = {}
        for field in ("path", "adapter", "imported"):
            try:
                places[field] = self._resolved(getattr(checkpoint, field))
            except ValueError as error:
                raise CheckpointError(f"{place}: {field}: {error}") from None
        return checkpoint.model_copy(update=places)
