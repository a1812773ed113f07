"""One checkpoint of a run on the run's hardware: what makes a heavy asset's personas."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.graph.resources import Gpu
from persona_assets.store.artefacts import Artefact, Value

T = TypeVar("T")

if TYPE_CHECKING:
    from persona_assets.inference import Chat, Generator, LoadedModel


@dataclass(frozen=True)
class ModelSession:
    """One checkpoint of a run on the run's hardware.

    Attributes:
        pending: personas of it that the run has still to compute, in the study's order.
    """

    gpu: Gpu
    checkpoint: Checkpoint
    identity: Identity
    log: Any
    pending: tuple[str, ...]

    @cached_property
    def chat(self) -> "Chat":
        from persona_assets.inference import read_chat

        return read_chat(self.checkpoint)

    @cached_property
    def stop_ids(self) -> list[int]:
        from persona_assets.inference import read_stop_ids

        return read_stop_ids(self.checkpoint, self.chat)

    def load(self, alone: bool = False) -> "LoadedModel":
        """The model in memory; see `Gpu.load`."""
        loaded: LoadedModel = self.gpu.load(self.checkpoint, self.identity, self.log, alone=alone)
        return loaded

    def generator(self, marker_adapter: Path | None = None) -> "Generator":
        """What writes responses, with a marker's adapter if one is given; see `Gpu.generator`."""
        generator: Generator = self.gpu.generator(
            self.checkpoint, self.identity, self.log, self.chat, self.stop_ids, marker_adapter
        )
        return generator

    def together(self, generator: "Generator", persona: str) -> list[str]:
        """The personas whose prompts belong into one call with this one's."""
        return list(self.pending) if generator.takes_all else [persona]


def cache_batch(make: Callable[[ModelSession, str], dict[str, T]]) -> Callable[[ModelSession, str], T]:
    """What `make` gives for a persona, where it gives others of the same checkpoint too: each is made once."""
    made: dict[tuple[str, str], T] = {}

    def take(session: ModelSession, persona: str) -> T:
        name = session.checkpoint.name
        if (name, persona) not in made:
            made.update({(name, each): value for each, value in make(session, persona).items()})
        return made.pop((name, persona))

    return take


# The persona's session, the persona, its upstream artefact if the asset has one → value, what it cost.
Compute = Callable[[ModelSession, str, Artefact | None], tuple[Value, dict[str, Any]]]
