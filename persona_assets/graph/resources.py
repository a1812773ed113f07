"""Resource `gpu`: the hardware that models run on (a CPU works too) and the models loaded in this process."""

import atexit
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.graph.provenance import GENERATING
from persona_assets.inference.vllm.process import import_early
from persona_assets.study.settings import Inference

if TYPE_CHECKING:
    from persona_assets.inference import Chat

# Variable with a number of worker processes, `cards` for one per GPU, or `ray`.
WORKERS = "PERSONA_ASSETS_WORKERS"

# Model and engine of this process, at most one each, by key. They are module globals because Dagster creates a new
# resource for each run, and one process may execute several runs of a checkpoint in a row.
_models: dict[str, Future[Any]] = {}
_engines: dict[str, Any] = {}
_loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
# Temporary copies of checkpoints with a merged adapter, for vLLM, which is given whole models only. Deleted when the
# process exits.
_merged: dict[str, TemporaryDirectory[str]] = {}


class Gpu(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hardware that heavy assets run on, and the model that is loaded once and shared by all their work.

    The fields come from the study's `inference` section; Dagster's launchpad can override them for one run.
    """

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA if a GPU is available.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Data type of weights and activations. auto: bfloat16 on CUDA, float32 on a CPU."
    )
    engine: Literal["auto", "vllm", "transformers"] = Field(
        "auto", description="Engine that generates responses. auto: vLLM on a GPU if installed, else Transformers."
    )
    attention: Literal["sdpa", "eager"] = Field("sdpa", description="PyTorch's fused attention, or the eager one.")
    memory_share: float = Field(0.9, description="Share of GPU memory that this process may use, in (0, 1].")
    tensor_parallel: int = Field(1, description="Number of GPUs that one copy of the model is split across.")
    timeout: float = Field(
        1800.0, description="Seconds to wait for vLLM before the run fails; finished personas stay stored."
    )

    # Not a setting of the study: where a result is computed does not change it.
    workers: str = Field(
        "",
        description="Worker processes: a number, 'cards' (one per GPU) or 'ray'. Empty: PERSONA_ASSETS_WORKERS, or 1.",
    )

    _hardware: Any = PrivateAttr(default=None)
    _engine: Any = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Let vLLM's imports begin with a run's own, unless workers run the model."""
        if self.chosen_workers == "1":
            import_early(self.settings)

    @property
    def chosen_workers(self) -> str:
        """What the run config or PERSONA_ASSETS_WORKERS says of workers; by default one, which is this process."""
        return self.workers or os.environ.get(WORKERS, "1")

    @property
    def hardware(self) -> Any:
        """Hardware chosen from the settings (`inference.Hardware`). Imports PyTorch on first use, not earlier."""
        if self._hardware is None:
            from persona_assets.inference import choose_hardware

            self._hardware = choose_hardware(self.settings)
        return self._hardware

    @property
    def chosen_engine(self) -> Any:
        """Engine that generates responses (`inference.Engine`)."""
        if self._engine is None:
            from persona_assets.inference import choose_engine

            self._engine = choose_engine(self.settings, self.hardware)
        return self._engine

    def environment(self, asset: str, identity: Identity) -> dict[str, str]:
        """Return the part of the environment that an asset's results depend on: hardware, libraries, how models run.

        The attention implementation is the one that the architecture needs, otherwise the study's. Assets that generate
        text depend on the engine too, and on the token that ends a turn if only the chat template says so; those that
        read replies depend on the format of thoughts.
        """
        needs = {
            "attention": identity.attention,
            "scoring": identity.scoring if asset in ("logit_js", "marker_log_probs", "self_check") else None,
            "thoughts": identity.thoughts if asset != "centroids" else None,
            "turn_end": identity.turn_end if asset in GENERATING else None,
        }
        engine = self.chosen_engine.identity if asset in (*GENERATING, "self_check") else {}
        return {**self.hardware.environment(), **{name: need for name, need in needs.items() if need}, **engine}

    def load(
        self,
        checkpoint: Checkpoint,
        identity: Identity,
        log: Any,
        marker_adapter: Path | None = None,
        alone: bool = False,
    ) -> Any:
        """Load a checkpoint (`inference.LoadedModel`), or return it if it is loaded already.

        At most one model is kept in memory: a different one is unloaded first. The vLLM engine is shut down if both do
        not fit into GPU memory.

        Args:
            marker_adapter: adapter to merge into the weights.
            alone: shut the engine down in any case, for example to train.
        """
        if alone or not all(engine.stays_up for engine in _engines.values()):
            _close_engine()
        return self._start_loading(checkpoint, identity, log, marker_adapter).result()

    def generator(
        self,
        checkpoint: Checkpoint,
        identity: Identity,
        log: Any,
        chat: "Chat",
        stop_ids: list[int],
        marker_adapter: Path | None = None,
    ) -> Any:
        """Return the generator of a checkpoint's responses (`inference.Generator`); a process has at most one.

        If GPU memory fits both, the model loads while vLLM starts, and vLLM keeps running and swaps in the next
        checkpoint's weights. Otherwise vLLM is shut down when a model is loaded.

        Args:
            marker_adapter: adapter to merge into a copy of the weights.
        """
        from persona_assets.inference import (
            TransformersGenerator,
            VllmGenerator,
            VllmSettings,
            plan_engine_memory,
            save_merged,
        )

        if self.chosen_engine.name == "transformers":
            return TransformersGenerator(self.load(checkpoint, identity, log, marker_adapter))
        wanted = self._key(identity, marker_adapter)
        if wanted not in _engines:
            log.info(f"generating responses with vLLM {self.chosen_engine.version}: {self.chosen_engine.why}")
            directory = checkpoint.directory()
            if checkpoint.has_adapter or marker_adapter or identity.quantisation:
                if wanted not in _merged:
                    if not all(engine.stays_up for engine in _engines.values()):
                        _close_engine()
                    _unload_model()
                    _merged.clear()
                    _merged[wanted] = TemporaryDirectory(prefix="persona-assets-merged-")
                    save_merged(checkpoint, self.hardware, Path(_merged[wanted].name), log.info, marker_adapter)
                directory = Path(_merged[wanted].name)
            settings = VllmSettings(directory, self.hardware, timeout=self.timeout)
            engine = next(iter(_engines.values()), None)
            if engine is not None and engine.can_swap_weights(settings):
                engine.swap_weights(directory, chat, stop_ids)
                _engines.clear()
            else:
                _close_engine()
                fits_both, memory = plan_engine_memory(directory, self.hardware, self.memory_share)
                if not fits_both:
                    _unload_model()
                engine = VllmGenerator(replace(settings, memory=memory), chat, stop_ids, log.info)
                engine.stays_up = fits_both
                engine.start(wait=False)
            _engines[wanted] = engine
            if engine.stays_up and marker_adapter is None:
                self._start_loading(checkpoint, identity, log)
        return _engines[wanted]

    def _start_loading(
        self, checkpoint: Checkpoint, identity: Identity, log: Any, marker_adapter: Path | None = None
    ) -> Future[Any]:
        wanted = self._key(identity, marker_adapter)
        future = _models.get(wanted)
        if future is None or (future.done() and future.exception()):
            import torch

            from persona_assets.inference import load_model

            _unload_model()
            if self.hardware.device == "cuda":
                torch.cuda.set_per_process_memory_fraction(self.memory_share)
            future = _models[wanted] = _loader.submit(load_model, checkpoint, self.hardware, log.info, marker_adapter)
        return future

    def _key(self, identity: Identity, adapter: Path | None) -> str:
        return f"{identity.digest} {adapter or ''} {self.settings.model_dump_json()}"

    @property
    def settings(self) -> Inference:
        """Fields that are part of the study, without those of the run."""
        return Inference.model_validate({name: getattr(self, name) for name in Inference.model_fields})


@atexit.register  # free GPU memory for the next run
def _close_engine() -> None:
    for engine in _engines.values():
        engine.close()
    _engines.clear()


def _unload_model() -> None:
    import torch

    _models.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
