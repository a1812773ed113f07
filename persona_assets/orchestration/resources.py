"""The `gpu` resource: where models run. A CPU serves as well."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from persona_assets.checkpoint import Checkpoint, Identity
from persona_assets.settings import Inference


class Gpu(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The hardware that heavy assets run on, and the model that it holds: loaded once for all of a run's work.

    The fields are the study's `inference`; the launchpad can set them for one run.
    """

    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"
    attention: str = "sdpa"
    memory_share: float = 0.9

    _hardware: Any = PrivateAttr(default=None)
    _loaded: Any = PrivateAttr(default=None)
    _identity: str = PrivateAttr(default="")

    @property
    def hardware(self) -> Any:
        """What was chosen (`inference.Hardware`); PyTorch is imported here and not when definitions load."""
        if self._hardware is None:
            from persona_assets.inference import choose_hardware

            fields = {name: getattr(self, name) for name in Inference.model_fields}
            self._hardware = choose_hardware(Inference.model_validate(fields))
        return self._hardware

    def load(self, checkpoint: Checkpoint, identity: Identity, log: Any, marker_adapter: Path | None = None) -> Any:
        """The checkpoint in memory (`inference.LoadedModel`), a marker's adapter merged if given.

        One model is held: another one is let go first.
        """
        wanted = f"{identity.digest} {marker_adapter or ''}"
        if self._identity != wanted:
            import torch

            from persona_assets.inference import load_model

            self._loaded, self._identity = None, ""
            if self.hardware.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.set_per_process_memory_fraction(self.memory_share)
            self._loaded = load_model(checkpoint, self.hardware, log.info, marker_adapter)
            self._identity = wanted
        return self._loaded
