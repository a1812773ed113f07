"""Protocol between a run and its workers: requests are JSON, results are the bytes to store.

A message is a JSON object followed by any number of blobs, for any transport. There is one message per persona.
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


# Fields of a request that a task has not, or has as artefacts.
_NOT_AS_THEY_ARE = ("inference", "upstream", "replies")


class TaskRequest(BaseModel):
    """A task as JSON. In `upstream` and `replies` fingerprints take the place of artefacts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    study: Study
    inference: Inference
    checkpoint: Checkpoint
    identity: Identity
    environment: dict[str, str]
    personas: tuple[str, ...]
    upstream: dict[str, str]
    replies: dict[str, str]

    @classmethod
    def of(cls, task: Task, inference: Inference) -> "TaskRequest":
        fields = {name: getattr(task, name) for name in cls.model_fields if name not in _NOT_AS_THEY_ARE}
        upstream = {name: task.upstream[name].fingerprint for name in task.personas if name in task.upstream}
        replies = {name: artefact.fingerprint for name, artefact in task.replies.items()}
        return cls(**fields, inference=inference, upstream=upstream, replies=replies)

    def task(self, home: Home) -> Task:
        """Rebuild the task in another process, whose store must contain the upstream artefacts."""
        found = {persona: home.store.get(UPSTREAM[self.stage], digest) for persona, digest in self.upstream.items()}
        replies = {target: home.store.get("generations", digest) for target, digest in self.replies.items()}
        fields = {name: getattr(self, name) for name in type(self).model_fields if name not in _NOT_AS_THEY_ARE}
        return Task(**fields, upstream=found, replies=replies)


@dataclass
class _Log:
    """Replacement for a run's log in a worker: passes lines to the run's process."""

    say: Callable[[str], None]

    def info(self, line: str) -> None:
        self.say(line)

    warning = info


@dataclass
class RequestHandler:
    """Computes requests in a worker; the loaded model is reused from one request to the next."""

    home: Home
    say: Callable[[str], None]
    _in_process: InProcess | None = field(default=None, init=False)

    def messages(self, request: str) -> Iterator[Message]:
        """Compute a request and yield a message per persona; an exception becomes a last message `broken`."""
        try:
            read = TaskRequest.model_validate_json(request)
            if self._in_process is None or self._in_process.gpu.settings != read.inference:
                self._in_process = InProcess(Gpu(**read.inference.model_dump()), self.home, _Log(self.say))
            for result in self._in_process.make([read.task(self.home)]):
                yield _message(result)
        except Exception as error:
            broken = {"broken": type(error).__name__, "text": str(error), "traceback": traceback.format_exc()}
            yield broken, []


def _message(result: Result) -> Message:
    header = {"checkpoint": result.checkpoint, "persona": result.persona, "cost": result.cost}
    if result.value is None:
        return {**header, "not_finite": str(result.error)}, []
    encoded = result.value if isinstance(result.value, Encoded) else encode(result.value)
    return {**header, "suffix": encoded.suffix, "files": list(encoded.files)}, list(encoded.files.values())


def read_message(header: Mapping[str, Any], blobs: list[bytes], worker: str) -> Result:
    """Decode a worker's message in the run's process.

    Raises:
        WorkerError: the worker failed with an error from outside this package; includes its traceback.
        Exception: the worker's own error, if its class is one of this package's.
    """
    from persona_assets.inference import NonFiniteError
    from persona_assets.inference.vllm.process import EngineError

    if "broken" in header:
        ours = {kind.__name__: kind for kind in (*_OUR_ERRORS, EngineError)}
        if header["broken"] in ours:
            raise ours[header["broken"]](header["text"])
        raise WorkerError(f"{worker}: {header['broken']}: {header['text']}\n{header['traceback']}")
    result = Result(header["checkpoint"], header["persona"], None, {**header["cost"], "worker": worker})
    if "not_finite" in header:
        return replace(result, error=NonFiniteError(header["not_finite"]))
    return replace(result, value=Encoded(header["suffix"], dict(zip(header["files"], blobs, strict=True))))
