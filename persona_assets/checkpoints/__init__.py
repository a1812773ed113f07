"""Which weights are measured: their identity, their files, the registry, and how new ones are found."""

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
