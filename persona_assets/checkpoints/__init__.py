"""Checkpoints: identity, files, registry, and discovery of new ones."""

from persona_assets.checkpoints.checkpoint import (
    Checkpoint,
    CheckpointError,
    DigestCache,
    Identity,
    check_complete,
    identify,
    stamp,
)

__all__ = ["Checkpoint", "CheckpointError", "DigestCache", "Identity", "check_complete", "identify", "stamp"]
