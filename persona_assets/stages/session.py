"""Model session: one checkpoint on a run's hardware, used to compute the personas of a heavy asset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.graph.resources import Gpu
from persona_assets.store.artefacts import Artefact, Value
from persona_assets.study import Study

T = TypeVar("T")

if TYPE_CHECKING:
    from persona_assets.inference import Chat, Generator, LoadedModel


@dataclass(frozen=True)
class ModelSession:
    """One checkpoint on the hardware of a run.

    Attributes:
        pending: personas (or units) that this session has to compute, in the study's order.
        replies: target → its `generations`, for stages that read those of every target.
    """

    gpu: Gpu
    checkpoint: Checkpoint
    identity: Identity
    log: Any
    pending: tuple[str, ...]
    replies: Mapping[str, Artefact] = field(default_factory=dict)

    @cached_property
    def chat(self) -> "Chat":
        from persona_assets.inference import read_chat

        return read_chat(self.checkpoint)

    def chat_of(self, study: Study) -> "Chat":
        """Return the chat template under the study's settings."""
        return self.chat.with_settings(study.chat)

    @cached_property
    def stop_ids(self) -> list[int]:
        from persona_assets.inference import read_stop_ids

        return read_stop_ids(self.checkpoint, self.chat)

    def load(self, alone: bool = False, marker_adapter: Path | None = None) -> "LoadedModel":
        """Return the loaded model, optionally with a marker's adapter; see `Gpu.load`."""
        loaded: LoadedModel = self.gpu.load(self.checkpoint, self.identity, self.log, marker_adapter, alone)
        return loaded

    def generator(self, marker_adapter: Path | None = None) -> "Generator":
        """Return the generator of responses, optionally with a marker's adapter; see `Gpu.generator`."""
        generator: Generator = self.gpu.generator(
            self.checkpoint, self.identity, self.log, self.chat, self.stop_ids, marker_adapter
        )
        return generator

    def batch_with(self, persona: str, generator: "Generator") -> list[str]:
        """Return the personas whose prompts go into the same generator call as this persona's, itself included."""
        return list(self.pending) if generator.takes_all else [persona]


def cache_batch(compute: Callable[[ModelSession, str], dict[str, T]]) -> Callable[[ModelSession, str], T]:
    """Wrap a function that returns values of several personas, so that it is called once per batch.

    The wrapper returns the value of one persona and keeps the others until they are asked for.
    """
    cached: dict[tuple[str, str], T] = {}

    def take(session: ModelSession, persona: str) -> T:
        name = session.checkpoint.name
        if (name, persona) not in cached:
            cached.update({(name, each): value for each, value in compute(session, persona).items()})
        return cached.pop((name, persona))

    return take


# Session, persona, upstream artefact (None if the asset has none) → value to store, cost.
Compute = Callable[[ModelSession, str, Artefact | None], tuple[Value, dict[str, Any]]]
