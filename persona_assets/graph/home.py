"""Paths and stores of an instance: everything below DAGSTER_HOME."""

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
    """Folder of an instance, with its artefact store, checkpoint registry and models."""

    root: Path

    @classmethod
    def of_environment(cls) -> "Home":
        """Return the instance at DAGSTER_HOME, or at `dagster_home` in the working directory if that is not set."""
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
