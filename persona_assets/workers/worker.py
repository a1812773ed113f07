"""The worker's side: orders come as JSON, personas go back as the bytes that will be stored.

A message is a line of JSON and any number of blobs, whatever carries it. The first message about a persona is its last.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from persona_assets.checkpoints import Checkpoint, CheckpointError, Identity
from persona_assets.graph.home import Home
from persona_assets.graph.provenance import UPSTREAM
from persona_assets.graph.resources import Gpu
from persona_assets.store.artefacts import ArtefactError, Encoded, encode
from persona_assets.store.shared import SharedStorageError
from persona_assets.study import Study, StudyError
from persona_assets.study.settings import Inference
from persona_assets.workers.in_process import InProcess
from persona_assets.workers.tasks import Result, Task, WorkerError

_OUR_ERRORS: tuple[type[Exception], ...] = (ArtefactError, CheckpointError, SharedStorageError, StudyError, WorkerError)
Message = tuple[dict[str, Any], list[bytes]]


class TaskRequest(BaseModel):
    """A task as JSON; `upstream`: persona → fingerprint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    study: Study
    inference: Inference
    checkpoint: Checkpoint
    identity: Identity
    environment: dict[str, str]
    personas: tuple[str, ...]
    upstream: dict[str, str]

    @classmethod
    def of(cls, task: Task, inference: Inference) -> "TaskRequest":
        fields = {name: getattr(task, name) for name in cls.model_fields if name not in ("inference", "upstream")}
        upstream = {name: task.upstream[name].fingerprint for name in task.personas if name in task.upstream}
        return cls(**fields, inference=inference, upstream=upstream)

    def task(self, home: Home) -> Task:
        """The task in another process that has what it starts from in its store."""
        found = {persona: home.store.get(UPSTREAM[self.stage], digest) for persona, digest in self.upstream.items()}
        fields = {
            name: getattr(self, name) for name in type(self).model_fields if name not in ("inference", "upstream")
        }
        return Task(**fields, upstream=found)


@dataclass
class _Log:
    """What stands for a run's log in a worker."""

    say: Callable[[str], None]

    def info(self, line: str) -> None:
        self.say(line)


@dataclass
class RequestHandler:
    """What a worker is from its start to its end: the model that it has loaded serves the next order too."""

    home: Home
    say: Callable[[str], None]
    _in_process: InProcess | None = field(default=None, init=False)

    def messages(self, order: str) -> Iterator[Message]:
        """The answers to an order: one a persona; `broken` and then no more where something else went wrong."""
        try:
            read = TaskRequest.model_validate_json(order)
            if self._in_process is None or self._in_process.gpu.settings != read.inference:
                self._in_process = InProcess(Gpu(**read.inference.model_dump()), self.home, _Log(self.say))
            for made in self._in_process.make([read.task(self.home)]):
                yield _message(made)
        except Exception as error:
            broken = {"broken": type(error).__name__, "text": str(error), "traceback": traceback.format_exc()}
            yield broken, []


def _message(made: Result) -> Message:
    about = {"checkpoint": made.checkpoint, "persona": made.persona, "cost": made.cost}
    if made.value is None:
        return {**about, "not_finite": str(made.error)}, []
    encoded = made.value if isinstance(made.value, Encoded) else encode(made.value)
    return {**about, "suffix": encoded.suffix, "files": list(encoded.files)}, list(encoded.files.values())


def read_message(about: Mapping[str, Any], blobs: list[bytes], worker: str) -> Result:
    """What a worker's message says, in the run's process.

    Raises:
        What the worker's stage raised, where that is an error of the package; else WorkerError with a traceback.
    """
    from persona_assets.inference import NonFiniteError
    from persona_assets.inference.vllm.settings import EngineError

    if "broken" in about:
        ours = {kind.__name__: kind for kind in (*_OUR_ERRORS, EngineError)}
        if about["broken"] in ours:
            raise ours[about["broken"]](about["text"])
        raise WorkerError(f"{worker}: {about['broken']}: {about['text']}\n{about['traceback']}")
    made = Result(about["checkpoint"], about["persona"], None, {**about["cost"], "worker": worker})
    if "not_finite" in about:
        return replace(made, error=NonFiniteError(about["not_finite"]))
    return replace(made, value=Encoded(about["suffix"], dict(zip(about["files"], blobs, strict=True))))
