"""Overhead of Ray per persona: the same small stage in one process, in two, and with two actors on two nodes.

    unshare --map-root-user --net python -m benchmarks.ray_overhead --checkpoint DIR

A real cluster of two nodes on this host's loopback interface. Each variant computes the centroids of eleven personas,
one question each, with a loaded model. The overhead is the additional time per persona compared with one process.
"""

import argparse
import logging
import os
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

QUESTIONS, ROUNDS = 1, 5


def main() -> None:
    arguments = _arguments()
    os.environ["PERSONA_ASSETS_STUDY"] = "embedded"
    import ray
    from ray.cluster_utils import Cluster

    from benchmarks.reporting import heading, table, version_of
    from persona_assets.checkpoints import Checkpoint, DigestCache, identify
    from persona_assets.graph.home import Home
    from persona_assets.graph.resources import Gpu
    from persona_assets.study.files import load_study
    from persona_assets.workers import ray_actors
    from persona_assets.workers.in_process import InProcess
    from persona_assets.workers.processes import ProcessWorkers, close_processes
    from persona_assets.workers.tasks import Task, Workers
    from tests.on_loopback import bring_up

    bring_up()
    embedded = load_study("embedded")
    study = embedded.model_copy(update={"questions": embedded.questions[:QUESTIONS]})
    log, gpu = logging.getLogger("benchmark"), Gpu(device="cpu")
    quiet = {"include_dashboard": False, "object_store_memory": 80 << 20}
    rows = []
    with TemporaryDirectory(prefix="ray") as folder:
        os.environ["RAY_TMPDIR"] = folder
        home = Home(Path(folder))
        checkpoint = Checkpoint(name="measured", path=arguments.checkpoint.absolute())
        identity = identify(checkpoint, DigestCache(home.root / "digests.json"))
        environment = gpu.environment("centroids", identity)
        task = Task("centroids", study, checkpoint, identity, environment, tuple(study.personas), {})

        def timed(way: str, workers: Workers) -> None:
            start = time.perf_counter()
            list(workers.make([task]))
            first = time.perf_counter() - start
            again = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                computed = sum(made.cost["seconds"] for made in workers.make([task]))
                again.append((time.perf_counter() - start, computed))
            whole = statistics.median(seconds for seconds, _ in again)
            own = statistics.median(computed for _, computed in again)
            rows.append((way, first, whole, own))

        timed("this process", InProcess(gpu, home, log))
        timed("one other process", ProcessWorkers(gpu, home, log, 1, 0))
        timed("two processes", ProcessWorkers(gpu, home, log, 2, 0))
        close_processes()
        start = time.perf_counter()
        head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", **quiet}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=1, **quiet)
        os.environ["RAY_ADDRESS"] = cluster.address
        up = time.perf_counter() - start
        timed("one actor on one node", ray_actors.RayWorkers(gpu, home, log))
        cluster.add_node(num_cpus=1, **quiet)
        two = ray_actors.RayWorkers(gpu, home, log)
        while len(two._actors()) < 2:
            time.sleep(0.1)
        timed("actors on two nodes", two)
        ray_actors.close_actors()
        ray.shutdown()
        cluster.shutdown()
    personas = len(study.personas)
    base = rows[0][2] - rows[0][3]
    shown = [
        {
            "who": way,
            "first time, with start and load (s)": f"{first:.1f}",
            f"{personas} personas (s)": f"{whole:.2f}",
            "of that computing, all workers (s)": f"{own:.2f}",
            "overhead per persona (ms)": f"{1000 * (whole - own / max(1, 2 * ('two' in way))) / personas:.0f}",
        }
        for way, first, whole, own in rows
    ]
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.ray_overhead`, {heading()[:-1]}, "
    text += f"ray {version_of('ray')}.\n\n{table(shown)}\n\n"
    text += f"In one process a persona costs {1000 * base / personas:.0f} ms in addition to computing. "
    text += f"Head and first node of the cluster started in {up:.1f} s. "
    text += "The limit for Ray was 500 ms per persona once workers have started.\n"
    print(text)
    arguments.out.write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True, help="the embedded model's directory, or another")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ray.md"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
