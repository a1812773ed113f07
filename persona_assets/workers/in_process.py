"""Execution of tasks in the current process, which is the run's own or a worker's."""

from collections.abc import Iterator, Sequence
from typing import Any

from persona_assets.graph.home import Home
from persona_assets.graph.resources import Gpu
from persona_assets.stages.session import Compute, ModelSession
from persona_assets.study import Study
from persona_assets.workers.tasks import Result, Task, WorkerError


class InProcess:
    """`Workers` that compute all tasks in this process, one after another.

    Args:
        home: instance whose store contains the upstream artefacts; stages may store intermediate artefacts in it.
    """

    def __init__(self, gpu: Gpu, home: Home, log: Any) -> None:
        self.gpu, self.home, self.log = gpu, home, log
        self._last: tuple[str, Study, Compute] | None = None

    def make(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Workers`."""
        from persona_assets.inference import NonFiniteError

        for task in tasks:
            self._require_same_environment(task)
            session = ModelSession(self.gpu, task.checkpoint, task.identity, self.log, task.personas, task.replies)
            if not task.personas:
                session.load()
            compute, name = self._compute(task.stage, task.study), task.checkpoint.name
            for persona in task.personas:
                try:
                    value, cost = compute(session, persona, task.upstream.get(persona))
                except NonFiniteError as error:
                    yield Result(name, persona, None, {}, error)
                else:
                    yield Result(name, persona, value, cost)

    def _compute(self, stage: str, study: Study) -> Compute:
        """Return the stage's function, reused for consecutive tasks because it caches state such as the scorer."""
        from persona_assets.stages.stages import STAGES

        if self._last is None or self._last[:2] != (stage, study):
            self._last = (stage, study, STAGES[stage](study, self.home))
        return self._last[2]

    def _require_same_environment(self, task: Task) -> None:
        own = self.gpu.environment(task.stage, task.identity)
        if differing := [name for name in {**own, **task.environment} if own.get(name) != task.environment.get(name)]:
            pairs = "; ".join(f"{name}: found {own.get(name)!r}, expected {task.environment.get(name)!r}"
                              for name in differing)  # fmt: skip
            raise WorkerError(f"a worker's hardware or libraries differ from those of the run: {pairs}")
