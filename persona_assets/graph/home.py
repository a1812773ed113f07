"""Where an instance keeps its things: everything below DAGSTER_HOME."""

import os
from dataclasses import dataclass
from pathlib import Path

from persona_assets.checkpoints import DigestCache
from persona_assets.checkpoints.registry import Registry
from persona_assets.checkpoints.watched import Watched
from persona_assets.store.artefacts import ArtefactStore
from persona_assets.store.json_cache import JsonCache
from persona_assets.store.shared import SharedStorage


@dataclass(frozen=True)
class Home:
    """The folder of an instance: registry, models, artefacts."""

    root: Path

    @classmethod
    def of_environment(cls) -> "Home":
        """DAGSTER_HOME, or `dagster_home` in the working directory."""
        return cls(Path(os.environ.get("DAGSTER_HOME") or "dagster_home").absolute())

    @property
    def store(self) -> ArtefactStore:
        return ArtefactStore(self.root / "artefacts", SharedStorage.of_environment())

    @property
    def registry(self) -> Registry:
        return Registry(self.root / "checkpoints.yaml")

    @property
    def watched(self) -> Watched:
        return Watched(self.root / "watched.yaml")

    @property
    def studies(self) -> Path:
        return self.root / "studies"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def measured(self) -> JsonCache:
        return JsonCache(self.root / "measured.json")

    @property
    def digests(self) -> DigestCache:
        return DigestCache(self.root / "weights_digests.json")
