"""Ray's actors: workers on every node of a cluster, each with its cards and one loaded model.

The run's process hands out and stores, as with processes on one host; an actor is sent what a persona is made from and
gives back the bytes that are stored. So nodes share no store; the checkpoint's files have to be at the same path.
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

# Seconds that a run waits for a worker where there is none: a node may be starting.
WORKER_TIMEOUT = 300.0
# The actors of this process, kept from stage to stage and from run to run.
_crew: list["RayWorker"] = []


class RayWorkers:
    """`Workers` on the nodes of the cluster that RAY_ADDRESS names, or that runs on this host.

    Raises:
        WorkerError: Ray is not installed, or there is no cluster.
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
        shares = [share for task in tasks for share in split_task(task, self._places(), self.gpu)]
        yield from run_on_workers(shares, self._actors, self.log.warning, WORKER_TIMEOUT)

    def _places(self) -> int:
        """Actors that the nodes which are there now have room for."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(int(resources.get(self._kind, 0)) // self._each for resources in nodes)

    def _actors(self) -> list["RayWorker"]:
        """Those that are up; asks for more where there is room."""
        _crew[:] = [worker for worker in _crew if worker.is_alive]
        while len(_crew) < self._places():
            _crew.append(RayWorker({"num_cpus": 1, "num_gpus": self._each if self._kind == "GPU" else 0}))
        for worker in _crew:
            worker.gpu, worker.log = self.gpu, self.log
        return [worker for worker in _crew if worker.is_up()]


class RayWorker:
    """One actor, as the run's process sees it."""

    def __init__(self, resources: dict[str, int]) -> None:
        import ray

        # Threads decide the last bits on a CPU: as many as here.
        threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS",) if name in os.environ}
        options = {**resources, "max_restarts": 0, "runtime_env": {"env_vars": threads}}
        self.actor: Any = ray.remote(_Actor).options(**options).remote()
        self.name, self.is_alive = "", True
        self.gpu: Gpu
        self.log: Any
        self._where = self.actor.where.remote()

    def is_up(self) -> bool:
        """Whether it has begun, without waiting for it."""
        import ray

        if not self.name and ray.wait([self._where], timeout=0)[0]:
            try:
                self.name = ray.get(self._where)
            except ray.exceptions.RayError:  # its node is gone already
                self.is_alive = False
        return bool(self.name) and self.is_alive

    def work(self, task: Task) -> Iterator[Result]:
        """See `Worker`."""
        import ray

        order = TaskRequest.of(task, self.gpu.settings).model_dump_json()
        sent = [_parcel(task.upstream[persona]) for persona in task.personas if persona in task.upstream]
        try:
            for answer in self.actor.answer.options(num_returns="streaming").remote(order, sent):
                about, blobs = ray.get(answer)
                if "said" in about:
                    self.log.info(f"{self.name}: {about['said']}")
                else:
                    yield read_message(about, blobs, self.name)
        except ray.exceptions.RayError as error:
            self.close()
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise WorkerDiedError(f"{self.name} ended: {reason}") from error

    def close(self) -> None:
        """See `Worker`."""
        import ray

        self.is_alive = False
        ray.kill(self.actor)


# What an artefact is made from, what it cost, and its bytes.
_Parcel = tuple[str, dict[str, Any], dict[str, Any], str, dict[str, bytes]]


def _parcel(artefact: Artefact) -> _Parcel:
    content = content_of(artefact)
    return artefact.asset, artefact.made_from, artefact.measured, content.suffix, content.files


class _Actor:
    """What runs on a node: the same worker as in a process, with a store of its own for what it is sent."""

    def __init__(self) -> None:
        self._home = Home(Path(mkdtemp(prefix="persona-assets-actor-")))
        self._said: list[str] = []
        self._serving = RequestHandler(self._home, self._said.append)

    def where(self) -> str:
        """What the worker is called: its host, node and cards."""
        import ray

        context = ray.get_runtime_context()
        cards = ",".join(context.get_accelerator_ids().get("GPU", []))
        return f"{socket.gethostname()} {context.get_node_id()[:8]}{f' card {cards}' if cards else ''}"

    def answer(self, order: str, sent: Sequence[_Parcel]) -> Iterator[Message]:
        """See `RequestHandler.messages`; `sent`: what the order's personas are made from."""
        for asset, made_from, measured, suffix, files in sent:
            self._home.store.put(asset, made_from, Encoded(suffix, files), measured)
        for message in self._serving.messages(order):
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
        raise WorkerError("workers: found 'ray', but Ray is not installed; expected the extra ray") from error
    if not ray.is_initialized():
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False)
        except ConnectionError as error:
            raise WorkerError(f"workers: found 'ray', but no cluster ({error}); expected RAY_ADDRESS") from error


def close_actors() -> None:
    """Ends this process's actors; whatever they hold is free then."""
    for worker in _crew:
        worker.close()
    _crew.clear()
