"""What is to be made, and what was: the words between a run and whoever works for it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.store.artefacts import Artefact, Encoded, Value
from persona_assets.study import Study

if TYPE_CHECKING:
    from persona_assets.inference import NonFiniteError


class WorkerError(RuntimeError):
    """Workers that cannot be had, or what a worker came to grief with; says which."""


class WorkerDiedError(WorkerError):
    """A worker is gone, in the middle of whatever it did; others can do it."""


@dataclass(frozen=True)
class Task:
    """Personas of one checkpoint, still missing in the store, that are made one after another in one place.

    Attributes:
        stage: the heavy asset.
        environment: what the fingerprints say of the hardware and libraries; whoever makes them must have the same.
        personas: none: load the model, for it will be needed.
        upstream: persona → what it is made from, in stages that have that.
    """

    stage: str
    study: Study
    checkpoint: Checkpoint
    identity: Identity
    environment: Mapping[str, str]
    personas: tuple[str, ...]
    upstream: Mapping[str, Artefact]


@dataclass(frozen=True)
class Result:
    """A persona that is done.

    Attributes:
        value: None where its numbers were none, which `error` then says.
        cost: what it took: tokens, seconds; and the worker, where there is more than one.
    """

    checkpoint: str
    persona: str
    value: Value | Encoded | None
    cost: dict[str, Any]
    error: "NonFiniteError | None" = None


class Workers(Protocol):
    """Whoever makes missing personas."""

    def make(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """Every persona of the tasks as soon as it is done, in whatever order.

        Raises:
            WorkerError: no worker is left, or several ended at the same persona.
            Whatever a stage raises; what others were at by then is yielded before.
        """
        ...
