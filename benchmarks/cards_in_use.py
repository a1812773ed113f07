"""Check docs/how-to/cards.md on two GPUs: one checkpoint per GPU, a killed worker, and Ray's actors.

    python -m benchmarks.cards_in_use --tokenizer DIR --folder /large/disk

The published study's size with random weights, as in `benchmarks.two_cards`. First twice on one GPU. Then two
checkpoints at once in one instance, each run on its own GPU. Then, from the responses of the first run, JS and
centroids with one worker per GPU, one of which is killed with SIGKILL once three personas are stored; and with Ray's
actors, on a head that `deploy/ray/head.sh` starts. Artefacts made from the same inputs are compared byte by byte with
those of one GPU.

To try it without GPUs (in a network namespace of its own, because Ray listens on all interfaces):

    unshare --net --map-root-user sh -c 'ip link set lo up &&
        python -m benchmarks.cards_in_use --checkpoint DIR --study STUDY.yaml --out /tmp/cards.md'
"""

import argparse
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.two_cards import (
    NAME,
    differing,
    first_card,
    launch,
    new_home,
    parser_of,
    require_model,
    run,
    take_digests,
    weights,
)
from benchmarks.whole_run import caches, other_weights, stored

OTHER = "other"
SCRIPTS = Path(__file__).parents[1] / "deploy" / "ray"
HEAD = "127.0.0.1:6379"


def main(arguments: argparse.Namespace) -> None:
    folder, cards = arguments.folder, bool(arguments.tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    model = arguments.checkpoint or weights(folder / "7b", arguments.tokenizer, {})
    study, two = arguments.study, "cards" if cards else "2"
    runs = {"one GPU": run(folder, "one", model, study, "1", first_card(cards))}
    runs["one GPU, compiled code cached"] = run(folder, "cached", model, study, "1", first_card(cards))
    each = a_checkpoint_on_each(folder, model, study)
    runs |= {f"two checkpoints at once: {name}": found for name, found in each.items()}
    runs["two GPUs, one worker killed"] = killed = with_a_worker_killed(folder, model, study, two)
    runs["two GPUs, Ray's actors"] = run_by_ray(folder, model, study, cards)
    write(arguments.out, folder, runs, str(killed["at"]))


def a_checkpoint_on_each(folder: Path, model: Path, study: str) -> dict[str, dict[str, Any]]:
    """Run two checkpoints that differ in one tensor, in an instance that runs two model steps at a time."""
    other = folder / OTHER
    if not other.is_dir():
        other_weights(model, other)
        take_digests(other, folder / f"digests_{OTHER}.json")
    home = new_home(folder, "each", {NAME: model, OTHER: other})
    settings = home / "dagster.yaml"
    settings.write_text(settings.read_text().replace("default_limit: 1", "default_limit: 2"))
    where = {"PERSONA_ASSETS_STUDY": study, "PERSONA_ASSETS_WORKERS": "1"}
    launched = {name: launch(folder, home, f"each_{name}", where, name) for name in (NAME, OTHER)}
    return {name: each.result() for name, each in launched.items()}


def with_a_worker_killed(folder: Path, model: Path, study: str, workers: str) -> dict[str, Any]:
    home = new_home(folder, "killed", {NAME: model}, "one")
    launched = launch(folder, home, "killed", {"PERSONA_ASSETS_STUDY": study, "PERSONA_ASSETS_WORKERS": workers})
    while launched.process.poll() is None and len(stored(home / "artefacts" / "logit_js")) < 3:
        time.sleep(0.02)
    if launched.process.poll() is None:
        *_, last = [child for child in psutil.Process(launched.process.pid).children() if "--worker" in child.cmdline()]
        last.kill()
    at = len(stored(home / "artefacts" / "logit_js"))
    return launched.result() | {"at": at}


def run_by_ray(folder: Path, model: Path, study: str, cards: bool) -> dict[str, Any]:
    """Run on a cluster of this host alone, with the GPUs that Ray counts, or with two cores."""
    resources = [] if cards else ["--num-cpus=2"]
    environment = os.environ | caches(folder)
    subprocess.run([SCRIPTS / "head.sh", HEAD.partition(":")[0], *resources], env=environment, check=True)
    try:
        return run(folder, "ray", model, study, "ray", {"RAY_ADDRESS": HEAD}, responses_of="one")
    finally:
        subprocess.run(["ray", "stop", "--force"], check=False)


def write(out: Path, folder: Path, runs: dict[str, dict[str, Any]], at: str) -> None:
    from benchmarks.reporting import heading, table

    rows = [
        {
            "run": kind,
            "launch to matrices (s)": f"{found['whole']:.1f}",
            **{f"{stage} (s)": f"{seconds:.1f}" for stage, seconds in found["stages"].items()},
            "scoring by worker (s)": ", ".join(
                f"{worker}: {found['scoring'][worker]:.1f}" for worker in found["scoring"]
            ),
        }
        for kind, found in runs.items()
    ]
    each = [found for kind, found in runs.items() if kind.startswith("two checkpoints")]
    both = max(found["finished"] for found in each) - min(found["finished"] - found["whole"] for found in each)
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.cards_in_use`, {heading()}\n\n{table(rows)}\n\n"
    text += f"Two checkpoints at once: both finished after {both:.1f}; twice "
    text += f"{runs['one GPU, compiled code cached']['whole']:.1f} s one after the other.\n"
    text += f"The worker was killed with {at} personas stored: "
    text += f"{json.dumps(makers(folder / 'home_killed'))} personas by worker.\n\n"
    text += "Artefacts with the same bytes as those of one GPU:\n\n"
    for kind in ("cached", "each", "killed", "ray"):
        text += f"- {kind}: {differing(folder, 'one', kind)}\n"
    print(text)
    out.write_text(text, encoding="utf-8")


def makers(home: Path) -> dict[str, int]:
    """Return worker → number of personas of `logit_js` that it computed."""
    from persona_assets.graph.home import Home

    found: dict[str, int] = {}
    for artefact in Home(home).store.all("logit_js"):
        worker = artefact.measured.get("worker", "the run's process")
        found[worker] = found.get(worker, 0) + 1
    return found


if __name__ == "__main__":
    parser = parser_of(__doc__, "cards_in_use", "32 GB")
    arguments = parser.parse_args()
    require_model(parser, arguments)
    main(arguments)
