"""The `gpu` resource: where models run. A CPU serves as well."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import PrivateAttr

from persona_assets.checkpoint import Checkpoint, Identity
from persona_assets.settings import Inference

# The model that this process holds, and what it is: Dagster makes a resource anew for every run, and one process may
# work on several runs of a checkpoint one after another.
_held: dict[str, Any] = {}


class Gpu(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The hardware that heavy assets run on, and the model that the process holds: loaded once for all of its work.

    The fields are the study's `inference`; the launchpad can set them for one run.
    """

    device: str = "auto"
    dtype: str = "auto"
    engine: str = "auto"
    attention: str = "sdpa"
    memory_share: float = 0.9

    _hardware: Any = PrivateAttr(default=None)

    @property
    def hardware(self) -> Any:
        """What was chosen (`inference.Hardware`); PyTorch is imported here and not when definitions load."""
        if self._hardware is None:
            from persona_assets.inference import choose_hardware

            self._hardware = choose_hardware(self._settings())
        return self._hardware

    def load(self, checkpoint: Checkpoint, identity: Identity, log: Any, marker_adapter: Path | None = None) -> Any:
        """The checkpoint in memory (`inference.LoadedModel`), a marker's adapter merged if given.

        One model is held: another one is let go first.
        """
        wanted = f"{identity.digest} {marker_adapter or ''} {self._settings().model_dump_json()}"
        if wanted not in _held:
            import torch

            from persona_assets.inference import load_model

            _held.clear()
            if self.hardware.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.set_per_process_memory_fraction(self.memory_share)
            _held[wanted] = load_model(checkpoint, self.hardware, log.info, marker_adapter)
        return _held[wanted]

    def _settings(self) -> Inference:
        return Inference.model_validate({name: getattr(self, name) for name in Inference.model_fields})
