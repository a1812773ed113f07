"""Workers as Ray actors on the nodes of a cluster, each with its own GPUs and one loaded model.

As with processes on one host, the run's process schedules tasks and stores results. Actors are sent the upstream
artefacts and return the bytes to store, so nodes need no shared store; they do need the checkpoint's files at the same
path.
"""

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from persona_assets.graph.home import Home
from persona_assets.graph.provenance import UPSTREAM
from persona_assets.graph.resources import Gpu
from persona_assets.store.artefacts import Artefact, Encoded, content_of
from persona_assets.workers.batching import split_task
from persona_assets.workers.scheduling import run_on_workers
from persona_assets.workers.tasks import Result, Task, WorkerDiedError, WorkerError
from persona_assets.workers.worker import Message, RequestHandler, TaskRequest, read_message

# Seconds that a run waits for a worker when there is none, since a node may be starting.
WORKER_TIMEOUT = 300.0
# Actors of this process; kept across stages and runs.
_workers: list["RayWorker"] = []


class RayWorkers:
    """`Workers` on the nodes of the Ray cluster at RAY_ADDRESS, or of the one that runs on this host.

    Raises:
        WorkerError: Ray is not installed, or there is no cluster; raised by `make`.
    """

    def __init__(self, gpu: Gpu, home: Home, log: Any) -> None:
        self.gpu, self.home, self.log = gpu, home, log
        on_card = gpu.hardware.device == "cuda"
        self._kind, self._each = ("GPU", gpu.tensor_parallel) if on_card else ("CPU", 1)

    def make(self, tasks: Sequence[Task]) -> Iterator[Result]:
        """See `Workers`."""
        if not tasks:
            return
        _connect()
        pieces = [piece for task in tasks for piece in split_task(task, self._capacity(), self.gpu)]
        yield from run_on_workers(pieces, self._actors, self.log.warning, WORKER_TIMEOUT)

    def _capacity(self) -> int:
        """Return how many actors the nodes of the cluster have resources for."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(int(resources.get(self._kind, 0)) // self._each for resources in nodes)

    def _actors(self) -> list["RayWorker"]:
        """Return the actors that have started, and request more if the cluster has room."""
        _workers[:] = [worker for worker in _workers if worker.is_alive]
        while len(_workers) < self._capacity():
            _workers.append(RayWorker({"num_cpus": 1, "num_gpus": self._each if self._kind == "GPU" else 0}))
        for worker in _workers:
            worker.gpu, worker.log = self.gpu, self.log
        return [worker for worker in _workers if worker.is_up()]


class RayWorker:
    """Handle of one actor in the run's process."""

    def __init__(self, resources: dict[str, int]) -> None:
        import ray

        # On a CPU the number of threads affects rounding, so actors use as many as this process.
        threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        options = {**resources, "max_restarts": 0, "runtime_env": {"env_vars": threads}}
        self.actor: Any = ray.remote(_Actor).options(**options).remote()
        self.name, self.is_alive = "", True
        self.gpu: Gpu
        self.log: Any
        self._where = self.actor.where.remote()

    def is_up(self) -> bool:
        """Return whether the actor has started, without waiting."""
        import ray

        if not self.name and ray.wait([self._where], timeout=0)[0]:
            try:
                self.name = ray.get(self._where)
            except ray.exceptions.RayError:  # its node is already gone
                self.is_alive = False
        return bool(self.name) and self.is_alive

    def work(self, task: Task) -> Iterator[Result]:
        """See `Worker`."""
        import ray

        request = TaskRequest.of(task, self.gpu.settings).model_dump_json()
        needed = [task.upstream[persona] for persona in task.personas if persona in task.upstream]
        upstream = [_pack(artefact) for artefact in (*needed, *task.replies.values())]
        try:
            for answer in self.actor.answer.options(num_returns="streaming").remote(request, upstream):
                header, blobs = ray.get(answer)
                if "said" in header:
                    self.log.info(f"{self.name}: {header['said']}")
                else:
                    yield read_message(header, blobs, self.name)
        except ray.exceptions.RayError as error:
            self.close()
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise WorkerDiedError(f"{self.name} died: {reason}") from error

    def close(self) -> None:
        """See `Worker`."""
        import ray

        self.is_alive = False
        ray.kill(self.actor)


# An artefact for transfer: asset, made_from, measured, file suffix, file name → bytes.
_Packed = tuple[str, dict[str, Any], dict[str, Any], str, dict[str, bytes]]


def _pack(artefact: Artefact) -> _Packed:
    content = content_of(artefact)
    return artefact.asset, artefact.made_from, artefact.measured, content.suffix, content.files


class _Actor:
    """Ray actor: the same worker as in a process, with a temporary store for the artefacts that it is sent."""

    def __init__(self) -> None:
        self._home = Home(Path(mkdtemp(prefix="persona-assets-actor-")))
        self._said: list[str] = []
        self._handler = RequestHandler(self._home, self._said.append)

    def where(self) -> str:
        """Return the worker's name: its host, node and GPUs."""
        import ray

        context = ray.get_runtime_context()
        cards = ",".join(context.get_accelerator_ids().get("GPU", []))
        return f"{socket.gethostname()} {context.get_node_id()[:8]}{f' card {cards}' if cards else ''}"

    def answer(self, request: str, upstream: Sequence[_Packed]) -> Iterator[Message]:
        """Compute a request; see `RequestHandler.messages`. `upstream` are the artefacts that it needs."""
        for asset, made_from, measured, suffix, files in upstream:
            self._home.store.put(asset, made_from, Encoded(suffix, files), measured)
        for message in self._handler.messages(request):
            yield from self._lines()
            yield message
        yield from self._lines()
        for asset in set(UPSTREAM.values()):
            shutil.rmtree(self._home.store.root / asset, ignore_errors=True)

    def _lines(self) -> Iterator[Message]:
        while self._said:
            yield {"said": self._said.pop(0)}, []


def _connect() -> None:
    try:
        import ray
    except ImportError as error:
        raise WorkerError("workers: found 'ray', but Ray is not installed; install the extra `ray`") from error
    if not ray.is_initialized():
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
        except ConnectionError as error:
            raise WorkerError(
                f"workers: found 'ray', but no Ray cluster ({error}); set RAY_ADDRESS to the address of one"
            ) from error


def close_actors() -> None:
    """End the actors of this process, which frees their GPUs."""
    for worker in _workers:
        worker.close()
    _workers.clear()
