"""A run over a real Ray cluster of this host, told what to do by test_ray.py: `python ray_cluster.py HOME OUT`.

It has namespaces of its own: a network with loopback alone, for Ray listens on every interface, and processes, which
end with this one. The cluster is what `deploy/ray` starts; events are in PostgreSQL, and artefacts go to a server that
speaks S3. One node is there at the start; another joins when the first persona is done. Then a host that has nothing is
asked for the same, and takes it from S3. Then, without S3, everything is measured again, and an actor is killed while
it is at a persona; and once more, and a node is taken away with all that runs on it.
"""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import ray

from persona_assets.graph.home import Home
from persona_assets.runs.run import Run
from persona_assets.store.shared import VARIABLE as SHARED
from persona_assets.workers import ray_actors
from persona_assets.workers.tasks import Result, Task
from tests.end_to_end.conftest import emptied, heavy_files, tiny_run_of
from tests.on_loopback import bring_up
from tests.s3_server import s3

DEPLOY = Path(__file__).parents[2] / "deploy" / "ray"
HEAD = "127.0.0.1:6379"


def main(root: Path, out: Path) -> None:
    bring_up()
    taken: list[tuple[str, str, str]] = []
    work = ray_actors.RayWorker.work

    def noted(self: ray_actors.RayWorker, task: Task) -> Iterator[Result]:
        taken.extend((task.stage, persona, self.name) for persona in task.personas)
        if len(taken) == 2:  # the first has done one and leaves the rest to whoever joins
            wait_until(lambda: len(taken) > 2)
        yield from work(self, task)

    there = ray_actors.RayWorkers._actors

    def joined_by_another(self: ray_actors.RayWorkers) -> list[ray_actors.RayWorker]:
        if len(taken) == 2 and len(ray.nodes()) == 2:
            started("node.sh", HEAD, "--num-cpus=1")
        return there(self)

    ray_actors.RayWorker.work = noted  # type: ignore[method-assign]
    ray_actors.RayWorkers._actors = joined_by_another  # type: ignore[method-assign]
    started("head.sh", "127.0.0.1", "--num-cpus=0")
    started("node.sh", HEAD, "--num-cpus=1")
    os.environ["RAY_ADDRESS"] = HEAD
    found: dict[str, Any] = {}
    with s3() as url, dg.DagsterInstance.from_config(str(root)) as instance:
        os.environ[SHARED] = url
        run = tiny_run_of(root, instance)
        run.prepare()
        run.materialise_job("identify_checkpoint")
        run.materialise_job("measure_personas")
        run.materialise_job("train_markers")
        found["joined"] = {"taken": [*taken], "files": digests(run), "lines": lines(instance, 2)}
        found["storage"] = type(instance.event_log_storage).__module__

        taken.clear()
        other, artefacts = another_host(run, instance), run.home.store.root
        artefacts.rename(away := artefacts.with_name("away"))  # what comes, comes from S3
        found["elsewhere"] = {
            "measured again": other.materialise_job("measure_personas") or other.materialise_job("train_markers"),
            "compared": other.materialise_job("compare_personas"),
            "taken": [*taken],
            "files": digests(other),
        }
        away.rename(artefacts)

        del os.environ[SHARED]
        ray_actors.RayWorkers._actors = there  # type: ignore[method-assign]
        for what, kill in (("killed", psutil.Process.kill), ("taken away", take_away)):
            emptied(run)
            taken.clear()
            threading.Thread(target=lose_one, args=(taken, kill)).start()
            run.materialise_job("measure_personas")
            found[what] = {"taken": [*taken], "files": digests(run), "lines": lines(instance, 1)}
    out.write_text(json.dumps(found))
    ray_actors.close_actors()
    ray.shutdown()


def started(script: str, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(DEPLOY / script), *arguments, f"--object-store-memory={80 << 20}"]
    subprocess.run(command, env=os.environ | {"PATH": path}, stdout=subprocess.DEVNULL, check=True)


def another_host(run: Run, instance: dg.DagsterInstance) -> Run:
    """The same instance from a host that has the checkpoint and no artefact."""
    home = Home(run.home.root.with_name("other"))
    shutil.copytree(run.home.root, home.root, ignore=shutil.ignore_patterns("artefacts", "history", "storage"))
    return tiny_run_of(home.root, instance)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not come")
        time.sleep(0.01)


def lose_one(taken: list[tuple[str, str, str]], kill: Callable[[psutil.Process], None]) -> None:
    """Stops an actor before it is given anything, and kills it when it has been."""
    wait_until(lambda: len(actor_processes()) == 2)  # one was killed and is started again
    victim = actor_processes()[0]
    victim.send_signal(signal.SIGSTOP)
    wait_until(lambda: len({name for *_, name in taken}) == 2)
    time.sleep(0.3)
    kill(victim)


def actor_processes() -> list[psutil.Process]:
    every = psutil.Process().children(recursive=True)
    alive = [each for each in every if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    return [each for each in alive if each.cmdline()[:1] == ["ray::_Actor"]]


def take_away(actor: psutil.Process) -> None:
    """Kills what keeps the actor's node, and what runs on it."""
    raylet = actor.parent()
    assert raylet is not None
    assert raylet.name() == "raylet"
    for process in (raylet, *raylet.children(recursive=True)):
        process.kill()


def digests(run: Run) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in heavy_files(run).items()}


def lines(instance: dg.DagsterInstance, runs: int) -> list[str]:
    last = [record.dagster_run.run_id for record in instance.get_run_records(limit=runs)]
    return [entry.user_message for run_id in last for entry in instance.all_logs(run_id)]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
