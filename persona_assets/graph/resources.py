"""The `gpu` resource: where models run. A CPU serves as well."""

import atexit
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.study.settings import Inference

if TYPE_CHECKING:
    from persona_assets.inference import Chat

# What this process holds: a model and an engine, one of each at most, and what they are. Dagster makes a resource anew
# for every run, and one process may work on several runs of a checkpoint one after another.
_models: dict[str, Future[Any]] = {}
_engines: dict[str, Any] = {}
_loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")
# Checkpoints with an adapter merged into them, for engines that take none beside the weights; gone with the process.
_merged: dict[str, TemporaryDirectory[str]] = {}


class Gpu(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The hardware that heavy assets run on, and the model that the process holds: loaded once for all of its work.

    The fields are the study's `inference`; the launchpad can set them for one run.
    """

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a card.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Of weights and activations. auto: bfloat16 on CUDA, float32 on a CPU."
    )
    engine: Literal["auto", "vllm", "transformers"] = Field(
        "auto", description="What writes responses. auto: vLLM on a card where it is installed, else Transformers."
    )
    attention: Literal["sdpa", "eager"] = Field("sdpa", description="PyTorch's fused attention, or the plain one.")
    memory_share: float = Field(0.9, description="Share of the card's memory that this process may take, in (0, 1].")
    tensor_parallel: int = Field(1, description="Cards that one copy of the model is spread over.")
    timeout: float = Field(
        1800.0, description="Seconds without an answer of vLLM after which the run fails; what is stored stays."
    )

    # Of this run and not of the study: where it is computed is not what is computed.
    workers: str = Field(
        "",
        description="Who computes: a number of processes, or cards (one each). Empty: PERSONA_ASSETS_WORKERS, else 1.",
    )

    _hardware: Any = PrivateAttr(default=None)
    _engine: Any = PrivateAttr(default=None)

    @property
    def hardware(self) -> Any:
        """What was chosen (`inference.Hardware`); PyTorch is imported here and not when definitions load."""
        if self._hardware is None:
            from persona_assets.inference import choose_hardware

            self._hardware = choose_hardware(self.settings)
        return self._hardware

    @property
    def chosen_engine(self) -> Any:
        """What writes responses (`inference.Engine`)."""
        if self._engine is None:
            from persona_assets.inference import choose_engine

            self._engine = choose_engine(self.settings, self.hardware)
        return self._engine

    def environment(self, writes: bool) -> dict[str, str]:
        """What a number depends on beside its inputs; where responses are written, the engine too."""
        return {**self.hardware.environment(), **(self.chosen_engine.identity if writes else {})}

    def load(
        self,
        checkpoint: Checkpoint,
        identity: Identity,
        log: Any,
        marker_adapter: Path | None = None,
        alone: bool = False,
    ) -> Any:
        """The checkpoint in memory (`inference.LoadedModel`), a marker's adapter merged if given.

        One model is held: another one is let go first. An engine is closed where the two do not fit beside each other,
        or where the model is to be `alone`, as for training.
        """
        if alone or not all(engine.stays_up for engine in _engines.values()):
            _close_engine()
        return self._begin_loading(checkpoint, identity, log, marker_adapter).result()

    def generator(
        self,
        checkpoint: Checkpoint,
        identity: Identity,
        log: Any,
        chat: "Chat",
        stop_ids: list[int],
        marker_adapter: Path | None = None,
    ) -> Any:
        """What writes a checkpoint's responses (`inference.Generator`): one a process.

        Where the card has room for both, the model is loaded while vLLM comes up, and vLLM stays up for the next
        checkpoint, whose weights it takes; elsewhere it is closed when a model is asked for. A marker's adapter is
        merged into a copy of the weights.
        """
        from persona_assets.inference import TransformersGenerator, VllmGenerator, VllmSettings, find_room, save_merged

        if self.chosen_engine.name == "transformers":
            return TransformersGenerator(self.load(checkpoint, identity, log, marker_adapter))
        wanted = self._key(identity, marker_adapter)
        if wanted not in _engines:
            log.info(f"responses by vLLM {self.chosen_engine.version}: {self.chosen_engine.why}")
            directory = checkpoint.directory()
            if checkpoint.adapter or marker_adapter:
                if wanted not in _merged:
                    if not all(engine.stays_up for engine in _engines.values()):
                        _close_engine()
                    _unload_model()
                    _merged.clear()
                    _merged[wanted] = TemporaryDirectory(prefix="persona-assets-merged-")
                    save_merged(checkpoint, self.hardware, Path(_merged[wanted].name), log.info, marker_adapter)
                directory = Path(_merged[wanted].name)
            settings = VllmSettings(directory, self.hardware, timeout=self.timeout)
            held = next(iter(_engines.values()), None)
            if held is not None and held.can_take(settings):
                held.take(directory, chat, stop_ids)
                _engines.clear()
            else:
                _close_engine()
                beside, room = find_room(directory, self.hardware, self.memory_share)
                if not beside:
                    _unload_model()
                held = VllmGenerator(replace(settings, room=room), chat, stop_ids, log.info)
                held.stays_up = beside
                held.start(wait=False)
            _engines[wanted] = held
            if held.stays_up and marker_adapter is None:
                self._begin_loading(checkpoint, identity, log)
        return _engines[wanted]

    def _begin_loading(
        self, checkpoint: Checkpoint, identity: Identity, log: Any, marker_adapter: Path | None = None
    ) -> Future[Any]:
        wanted = self._key(identity, marker_adapter)
        held = _models.get(wanted)
        if held is None or (held.done() and held.exception()):
            import torch

            from persona_assets.inference import load_model

            _unload_model()
            if self.hardware.device == "cuda":
                torch.cuda.set_per_process_memory_fraction(self.memory_share)
            held = _models[wanted] = _loader.submit(load_model, checkpoint, self.hardware, log.info, marker_adapter)
        return held

    def _key(self, identity: Identity, adapter: Path | None) -> str:
        return f"{identity.digest} {adapter or ''} {self.settings.model_dump_json()}"

    @property
    def settings(self) -> Inference:
        """The fields that are the study's."""
        return Inference.model_validate({name: getattr(self, name) for name in Inference.model_fields})


@atexit.register  # so that the next run finds the card's memory free
def _close_engine() -> None:
    for engine in _engines.values():
        engine.close()
    _engines.clear()


def _unload_model() -> None:
    import torch

    _models.clear()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
