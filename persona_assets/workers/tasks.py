"""Interface between a run and its workers: tasks, results and errors."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from persona_assets.checkpoints import Checkpoint, Identity
from persona_assets.store.artefacts import Artefact, Encoded, Value
from persona_assets.study import Study

if TYPE_CHECKING:
    from persona_assets.inference import NonFiniteError


class WorkerError(RuntimeError):
    """Workers could not be started, or a worker failed."""


class WorkerDiedError(WorkerError):
    """A worker died during a task; the rest of the task can be given to another worker."""


@dataclass(frozen=True)
class Task:
    """Personas of one checkpoint that are missing in the store and are computed in sequence by one worker.

    Attributes:
        stage: name of the heavy asset.
        environment: hardware and libraries in the fingerprints; the worker must have the same.
        personas: personas to compute, or a source's units (see `provenance.units_of`); if empty, the worker only loads
            the model.
        upstream: persona or unit → upstream artefact, for stages that have one.
        replies: target → its `generations`, for stages that read those of every target.
    """

    stage: str
    study: Study
    checkpoint: Checkpoint
    identity: Identity
    environment: Mapping[str, str]
    personas: tuple[str, ...]
    upstream: Mapping[str, Artefact]
    replies: Mapping[str, Artefact] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """Result of one persona.

    Attributes:
        value: value to store; None if it was not finite, see `error`.
        cost: tokens, seconds and so on, and the worker's name unless the run's process computed it.
        error: says where NaN or infinity first occurred.
    """

    checkpoint: str
    persona: str
    value: Value | Encoded | None
    cost: dict[str, Any]
    error: "NonFiniteError | None" = None


class Workers(Protocol):
    """One or more workers that compute missing personas."""

    def make(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield the result of each persona as soon as it is done, in any order.

        Raises:
            WorkerError: no worker is left, or several workers died at the same persona.
            Exception: the error of a stage, after the results of tasks that other workers had already started.
        """
        ...
