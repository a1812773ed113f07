"""The published study on one GPU against two: the same run with its personas distributed; and a 32B shape over both.

    python -m benchmarks.two_cards --tokenizer DIR --folder /large/disk

Qwen2.5-7B's architecture with random weights and the published lengths, as in `benchmarks.whole_run`, through Dagster's
graph: once to compile, then on one GPU and on two. Each run has its own process and instance and is timed from its
launch to the matrices; the time is compared with `persona-assets plan`. With random weights vLLM may generate other
responses in the next run, so two GPUs also score the responses of the one-GPU run, and scoring is compared on those, in
time and byte by byte. Then Qwen2.5-32B's shape with `tensor_parallel: 2`, three personas and four questions. Errors are
reported in the result. The weights' digests are computed beforehand, as they are when a checkpoint is registered.

To try it without GPUs, two processes take the place of two GPUs:

    python -m benchmarks.two_cards --checkpoint DIR --study STUDY.yaml --out /tmp/two_processes.md
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

STAGES = ("generations", "centroids", "logit_js")
LIGHT = ("logit_js_matrix", "centroid_cosine")
NAME = "measured"
QWEN_32B = {
    "hidden_size": 5120,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "intermediate_size": 27648,
}


def main(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    cards = bool(arguments.tokenizer)
    model = arguments.checkpoint or weights(folder / "7b", arguments.tokenizer, {})
    one, two = ("1", "cards") if cards else ("1", "2")
    runs = {
        "one, compiling": run(folder, "compiling", model, arguments.study, one, first_card(cards)),
        "one": run(folder, "one", model, arguments.study, one, first_card(cards)),
        "two": run(folder, "two", model, arguments.study, two, {}),
        "two, the responses of one": run(folder, "same", model, arguments.study, two, {}, responses_of="one"),
    }
    spread = spread_run(folder, arguments.tokenizer) if cards else None
    write(arguments.out, folder, runs, spread, arguments.study)


def first_card(cards: bool) -> dict[str, str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    return {"CUDA_VISIBLE_DEVICES": visible[0]} if cards else {}


def weights(directory: Path, tokenizer: Path, shape: dict[str, int]) -> Path:
    """Write a random model of a shape, with a tokenizer for prompts, in a process that then frees its GPU."""
    if not directory.is_dir():
        command = [sys.executable, "-m", "benchmarks.two_cards", "--weights", json.dumps(shape)]
        subprocess.run([*command, "--checkpoint", str(directory), "--tokenizer", str(tokenizer)], check=True)
    return directory


def write_weights(directory: Path, tokenizer: Path, shape: dict[str, int]) -> None:
    from benchmarks.published_size import random_model

    random_model(**shape).model.save_pretrained(directory, max_shard_size="4GB")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / file, directory)
    take_digests(directory, directory.parent / f"digests_{directory.name}.json")


def take_digests(model: Path, kept: Path) -> None:
    """Compute the digests, so that no timed run has to read 15 GB first."""
    from persona_assets.checkpoints import Checkpoint, DigestCache, identify

    identify(Checkpoint(name=NAME, path=model), DigestCache(kept))


def run(
    folder: Path,
    kind: str,
    model: Path,
    study: str,
    workers: str,
    environment: dict[str, str],
    responses_of: str | None = None,
) -> dict[str, Any]:
    """Measure the model in a new instance and process; return the result, or the error if the 32B model fails."""
    home = new_home(folder, kind, {NAME: model}, responses_of)
    where = {"PERSONA_ASSETS_STUDY": study, "PERSONA_ASSETS_WORKERS": workers} | environment
    return launch(folder, home, kind, where).result(may_fail=kind == "spread")


def new_home(folder: Path, kind: str, models: Mapping[str, Path], responses_of: str | None = None) -> Path:
    """Create an instance with the models' digests, and with another instance's responses if one is named."""
    from persona_assets.graph.home import Home

    home = Home(folder / f"home_{kind}")
    shutil.rmtree(home.root, ignore_errors=True)
    home.root.mkdir()
    shutil.copy(Path(__file__).parents[1] / "dagster_home" / "dagster.yaml", home.root)
    for name, path in models.items():
        home.registry.add(name, {"path": str(path.absolute())})
    if responses_of:
        shutil.copytree(folder / f"home_{responses_of}" / "artefacts" / "generations", home.store.root / "generations")
    known = [folder / f"digests_{path.name}.json" for path in models.values()]
    digests = [json.loads(file.read_text()) for file in known if file.is_file()]
    (home.root / "weights_digests.json").write_text(json.dumps({key: each[key] for each in digests for key in each}))
    return home.root


def launch(folder: Path, home: Path, kind: str, environment: Mapping[str, str], name: str = NAME) -> "Launched":
    """Start a process that measures the instance's checkpoint `name`."""
    from benchmarks.whole_run import caches

    began = time.time()
    with (folder / f"{kind}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.two_cards", "--measure", name],
            env={**os.environ, **caches(folder), "DAGSTER_HOME": str(home), **environment},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    return Launched(kind, process, began, folder / f"{kind}.log")


@dataclass(frozen=True)
class Launched:
    """A process that measures."""

    kind: str
    process: "subprocess.Popen[str]"
    began: float
    log: Path

    def result(self, may_fail: bool = False) -> dict[str, Any]:
        """Return the process's result, and the seconds from its launch until then."""
        said, _ = self.process.communicate()
        print(self.kind, said, flush=True)  # partial results, in case the rest fails
        if self.process.returncode:
            failed = self.log.read_text()[-1500:]
            if may_fail:
                return {"failed": failed}
            raise RuntimeError(f"{self.kind}: {failed}")
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found | {"whole": found["finished"] - self.began}


def measure(name: str) -> None:
    """In the child: run the heavy stages, and record when each began and ended."""
    import dagster as dg

    from benchmarks.whole_run import force_lengths
    from persona_assets.definitions import build_definitions
    from persona_assets.graph.home import Home
    from persona_assets.graph.partitions import STUDY
    from persona_assets.runs.heavy import key_range
    from persona_assets.runs.run import Run
    from persona_assets.workers import processes

    force_lengths()
    processes.COMMAND[:] = [sys.executable, "-m", "benchmarks.two_cards", "--worker"]
    home = Home.of_environment()
    with dg.DagsterInstance.get() as instance:
        run = Run(instance, build_definitions(STUDY, home), home, STUDY, name)
        run.prepare()
        run.materialise_job("identify_checkpoint")
        run.materialise_job("measure_personas")
        heavy = dg.RunsFilter(job_name="measure_personas", tags=key_range(STUDY, "generations", name))
        (last,) = instance.get_run_records(heavy, limit=1)
        run.defs.resolve_job_def("compare_personas").execute_in_process(
            instance=instance, partition_key=name, asset_selection=[dg.AssetKey(asset) for asset in LIGHT]
        )
        finished = time.time()
        kinds = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS)
        spans: dict[str, list[float]] = defaultdict(list)
        for entry in instance.all_logs(last.dagster_run.run_id, of_type=set(kinds)):
            spans[str(entry.step_key)].append(entry.timestamp)
    stages = {stage: max(spans[stage]) - min(spans[stage]) for stage in STAGES}
    seconds, ended = defaultdict[str, float](float), defaultdict[str, str](str)
    tokens: dict[str, int] = defaultdict(int)
    plan = {}
    for stage in STAGES:
        for artefact in home.store.all(stage):
            cost = artefact.measured
            tokens[stage] += cost["tokens"]
            plan[stage] = str(cost.get("scorer", cost.get("engine", "")))
            if stage == "logit_js":
                worker = cost.get("worker", "the run's process")
                seconds[worker] += cost["seconds"]
                ended[worker] = max(ended[worker], cost["finished"])
    said = {"finished": finished, "stages": stages, "scoring": seconds, "ended": ended, "tokens": tokens, "plan": plan}
    print(json.dumps(said), flush=True)


def spread_run(folder: Path, tokenizer: Path) -> dict[str, Any]:
    """Run a few responses of a 32B shape over both GPUs."""
    from persona_assets.study.files import load_study

    published = load_study("published").model_dump(mode="json")
    names = [published["baseline"], *[name for name in published["personas"] if name != published["baseline"]][:2]]
    few = published | {
        "name": "spread",
        "personas": {name: published["personas"][name] | {"related_to": []} for name in names},
        "questions": published["questions"][:4],
        "centring_populations": {"study": "all"},
        "sources": [],
        "marker": None,
        "leakage": None,
        "source_rates": None,
        "inference": published["inference"] | {"tensor_parallel": 2},
    }
    study = folder / "spread.yaml"
    study.write_text(yaml.safe_dump(few, sort_keys=False))
    try:
        model = weights(folder / "32b", tokenizer, QWEN_32B)
    except subprocess.CalledProcessError as error:
        return {"failed": f"its weights could not be written: {error}"}
    return run(folder, "spread", model, str(study), "1", {})


def planned(study: str, cards: int) -> str:
    """Return what `persona-assets plan` estimates for this machine's GPUs, without the stages of a marker."""
    import torch

    from persona_assets.checkpoints.shape import QWEN_7B
    from persona_assets.planning.plan import plan
    from persona_assets.planning.rates import CARDS
    from persona_assets.study.files import load_study

    if not torch.cuda.is_available():
        return ""
    model = torch.cuda.get_device_name()
    card = next(card.name for card in CARDS if card.name.split()[0] in model)
    stages = plan(load_study(study), QWEN_7B, cards=cards).stages
    return f"{sum(stage.seconds[card] for stage in stages if stage.name in ('starting', *STAGES)):.0f} ({card})"


def differing(folder: Path, first: str, second: str) -> str:
    """Return how many artefacts of two instances have different bytes."""
    from persona_assets.graph.home import Home

    parts = []
    for stage in STAGES:
        digests = [
            {artefact.fingerprint: artefact.sha256 for artefact in Home(folder / f"home_{kind}").store.all(stage)}
            for kind in (first, second)
        ]
        same = sum(digests[0][each] == digests[1].get(each) for each in digests[0])
        parts.append(f"{stage} {same} of {len(digests[0])}")
    return ", ".join(parts)


def write(out: Path, folder: Path, runs: dict[str, Any], spread: dict[str, Any] | None, study: str) -> None:
    from benchmarks.reporting import heading, table

    counted = {"one": 1, "two": 2}
    rows = [
        {
            "GPUs": kind,
            "launch to matrices (s)": f"{found['whole']:.1f}",
            "plan says (s)": planned(study, counted[kind]) if kind in counted else "",
            **{f"{stage} (s)": f"{found['stages'][stage]:.1f}" for stage in STAGES},
            "scoring, the longest worker (s)": f"{max(found['scoring'].values()):.1f}",
            "workers ended apart (s)": f"{apart(found['ended'].values()):.0f}",
        }
        for kind, found in runs.items()
    ]
    one, two, same = (runs[kind] for kind in ("one", "two", "two, the responses of one"))
    scoring = max(one["scoring"].values()) / max(same["scoring"].values())
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.two_cards`, {heading()}\n"
    text += (
        f"Study {Path(study).name}; responses: {one['plan']['generations']}; scoring: {one['plan']['logit_js']}.\n\n"
    )
    text += f"{table(rows)}\n\nTwo against one: scoring {scoring:.2f} ×, the stage `logit_js` "
    text += f"{one['stages']['logit_js'] / same['stages']['logit_js']:.2f} ×, "
    text += f"launch to matrices {one['whole'] / two['whole']:.2f} ×.\n"
    text += f"Artefacts with the same bytes, of the same responses: {differing(folder, 'one', 'same')}; "
    text += f"of newly generated responses: {differing(folder, 'one', 'two')}, twice on one GPU: "
    text += f"{differing(folder, 'compiling', 'one')}.\n"
    if spread is not None:
        text += "\nQwen2.5-32B's shape over two GPUs, 3 personas × 4 questions: "
        if "failed" in spread:
            text += f"failed:\n\n```text\n{spread['failed']}\n```\n"
        else:
            text += (
                f"responses by {spread['plan']['generations']} in {spread['stages']['generations']:.1f} s including "
            )
            text += "the engine's start; "
            text += f"scoring ({spread['plan']['logit_js']}) {spread['tokens']['logit_js']} tokens in "
            text += f"{sum(spread['scoring'].values()):.1f} s.\n"
    print(text)
    out.write_text(text, encoding="utf-8")


def apart(times: Sequence[str]) -> float:
    """Return the seconds between the first and the last."""
    moments = sorted(map(datetime.fromisoformat, times))
    return (moments[-1] - moments[0]).total_seconds()


def parser_of(description: str | None, name: str, disk: str) -> argparse.ArgumentParser:
    """Return the options that benchmarks on two GPUs share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer and its chat template")
    parser.add_argument("--checkpoint", type=Path, help="without GPUs: an existing model")
    parser.add_argument("--study", default="published")
    parser.add_argument("--folder", type=Path, default=Path("/tmp") / name, help=f"needs {disk} of disk")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/results/{name}.md"))
    return parser


def require_model(parser: argparse.ArgumentParser, found: argparse.Namespace) -> None:
    """Exit with an error unless one of the two options that provide a model is given."""
    if not (found.tokenizer or found.checkpoint):
        parser.error("expected --tokenizer, or --checkpoint on a machine without GPUs")


def start() -> None:
    """Choose what this process does: the benchmark, a run, a run's worker, or writing weights."""
    if sys.argv[1:2] == ["--worker"]:
        from benchmarks.whole_run import force_lengths
        from persona_assets.workers import worker_process

        force_lengths()
        worker_process.main(sys.argv[2:])
        return
    parser = parser_of(__doc__, "two_cards", "85 GB")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    require_model(parser, arguments)
    if arguments.weights:
        write_weights(arguments.checkpoint, arguments.tokenizer, json.loads(arguments.weights))
    else:
        main(arguments)


if __name__ == "__main__":
    start()
