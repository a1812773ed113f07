"""The published study at its real size through Dagster's graph on one GPU: seconds of every stage.

    python -m benchmarks.whole_run --tokenizer DIR --folder /large/disk --out benchmarks/results/whole_run_h200.md

Qwen2.5-7B's architecture with random weights, first written to --folder; 220 responses of the published lengths (the
same number of tokens, and of responses at the limit), which are forced, because random weights do not end a response.
There are four runs, each in a process of its own and timed from its launch: cold (nothing compiled or loaded); with
compiled code in the cache, and then a second checkpoint in the same process; one that is killed in `logit_js`; and the
run that follows it. The weights' digests are computed beforehand, as they are when a checkpoint is registered. The
tokenizer is only used for prompts.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FIRST, SECOND = "random-a", "random-b"
HEAVY = ("generations", "centroids", "logit_js")
LIGHT = ("logit_js_matrix", "centroid_cosine")
PEAK = 989e12  # dense bfloat16 FLOP/s of an H100 and an H200, for MFU


def main() -> None:
    arguments = _arguments()
    if arguments.measure:
        measure(arguments.measure, arguments.checkpoints.split(","), arguments.began)
        return
    folder: Path = arguments.folder
    if not folder.is_dir():
        prepare(folder, arguments.tokenizer)
    homes = [make_home(folder, kind) for kind in ("cold", "warm", "killed")]
    digests = register(homes[0])
    for home in homes[1:]:
        shutil.copy(homes[0] / "weights_digests.json", home)
    (cold,) = run(folder, "cold", [FIRST])
    warm, second = run(folder, "warm", [FIRST, SECOND])
    kept = run_and_kill(folder, "killed")
    (resumed,) = run(folder, "killed", [FIRST])
    write(arguments.out, cold, warm, second, kept, resumed, digests)


def prepare(folder: Path, tokenizer: Path) -> None:
    """Write two checkpoints that differ in one file."""
    import torch

    from benchmarks.published_size import random_model

    first, second = folder / FIRST, folder / SECOND
    folder.mkdir(parents=True, exist_ok=True)
    loaded = random_model()
    loaded.model.save_pretrained(first, max_shard_size="4GB")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer / file, first)
    del loaded
    torch.cuda.empty_cache()
    other_weights(first, second)


def other_weights(first: Path, second: Path) -> None:
    """Write the same model with one tensor larger by half; identical files are linked."""
    from safetensors.torch import load_file, save_file

    second.mkdir()
    *same, last = sorted(first.glob("*.safetensors"))
    for file in [*same, *(file for file in first.iterdir() if file.is_file() and file.suffix != ".safetensors")]:
        os.link(file, second / file.name)
    tensors = load_file(last)
    name = min(tensors)
    save_file(tensors | {name: tensors[name] * 1.5}, second / last.name, {"format": "pt"})


def make_home(folder: Path, kind: str) -> Path:
    from persona_assets.graph.home import Home

    home = Home(folder / f"home_{kind}")
    home.root.mkdir()
    shutil.copy(Path(__file__).parents[1] / "dagster_home" / "dagster.yaml", home.root)
    for name in (FIRST, SECOND):
        home.registry.add(name, {"path": str(folder / name)})
    return home.root


def register(home: Path) -> float:
    """Compute the digests, as registering does; return the seconds of the first checkpoint."""
    from persona_assets.checkpoints import identify
    from persona_assets.graph.home import Home

    start = time.perf_counter()
    identify(Home(home).registry.get(FIRST), Home(home).digests)
    seconds = time.perf_counter() - start
    identify(Home(home).registry.get(SECOND), Home(home).digests)
    return seconds


def run(folder: Path, kind: str, checkpoints: Sequence[str]) -> list[dict[str, Any]]:
    """Measure the checkpoints one after another in a new process; return its result for each."""
    with launched(folder, kind, checkpoints) as process:
        said = list[str]()
        for line in process.stdout or []:
            print(line, end="", flush=True)  # partial results, in case the rest fails
            said += [line] if line.startswith("{") else []
    if process.returncode:
        raise RuntimeError((folder / f"{kind}.log").read_text()[-4000:])
    return [json.loads(line) for line in said]


def run_and_kill(folder: Path, kind: str) -> int:
    """Kill a run with SIGKILL once JS of three personas is stored; return the number of stored artefacts by asset."""
    done = folder / f"home_{kind}" / "artefacts" / "logit_js"
    with launched(folder, kind, [FIRST]) as process:
        while process.poll() is None and len(stored(done)) < 3:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    return len(stored(done))


def stored(folder: Path) -> list[Path]:
    """Return the number of stored artefacts of an asset; the record is written last."""
    return list(folder.glob("*.json")) if folder.is_dir() else []


def caches(folder: Path) -> dict[str, str]:
    """Return the folders of compiled code, which are kept between runs."""
    names = ("TRITON_CACHE_DIR", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")
    return {name: str(folder / "caches" / name.lower()) for name in names}


@contextmanager
def launched(folder: Path, kind: str, checkpoints: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.whole_run", "--measure", kind, "--checkpoints", ",".join(checkpoints)]
    environment = {"DAGSTER_HOME": str(folder / f"home_{kind}"), "PERSONA_ASSETS_STUDY": "published", **caches(folder)}
    with (folder / f"{kind}.log").open("a") as log:
        process = subprocess.Popen(
            [*command, "--began", str(time.time())],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        yield process
        process.wait()


def measure(kind: str, checkpoints: Sequence[str], began: float) -> None:
    """In the child: materialise the study for each checkpoint and record the times."""
    force_lengths()
    import dagster as dg

    from persona_assets.definitions import build_definitions
    from persona_assets.graph.home import Home
    from persona_assets.graph.loggers import PLAIN_LINES
    from persona_assets.graph.partitions import STUDY
    from persona_assets.runs.heavy import key_range
    from persona_assets.runs.run import Run

    home = Home.of_environment()
    defs = build_definitions(STUDY, home)
    with dg.DagsterInstance.get() as instance:
        for name in checkpoints:
            marks = {"launched": time.time() - began if name == FIRST else 0.0}
            began = began if name == FIRST else time.time()
            run = Run(instance, defs, home, STUDY, name)
            run.prepare()
            run.materialise_job("identify_checkpoint")
            marks["registered"] = time.time() - began
            heavy = defs.resolve_job_def("measure_personas").execute_in_process(
                instance=instance, run_config=PLAIN_LINES, tags=key_range(STUDY, "generations", name)
            )
            light = defs.resolve_job_def("compare_personas").execute_in_process(
                instance=instance,
                run_config=PLAIN_LINES,
                partition_key=name,
                asset_selection=[dg.AssetKey(asset) for asset in LIGHT],
            )
            marks["finished"] = time.time() - began
            stages, counts = {}, {}
            for result in (heavy, light):
                for event in result.all_events:
                    if event.event_type_value in ("STEP_START", "STEP_SUCCESS") and event.step_key in (*HEAVY, *LIGHT):
                        log = instance.get_records_for_run(result.run_id, of_type=event.event_type).records
                        times = {entry.event_log_entry.step_key: entry.event_log_entry.timestamp for entry in log}
                        stages.setdefault(event.step_key, []).append(times[event.step_key] - began)
            for asset in HEAVY:
                events = heavy.asset_materializations_for_node(asset)
                found = [{key: value.value for key, value in event.metadata.items()} for event in events]
                counts[asset] = {
                    "computed": sum(bool(each["computed"]) for each in found),
                    "tokens": sum(each["tokens"] for each in found),
                    "seconds": sum(each["seconds"] for each in found),
                    "peak_memory_gib": max(each["peak_memory_gib"] for each in found),
                    "engine_start_seconds": max(each.get("engine_start_seconds", 0) for each in found),
                    "engine": str(found[0].get("engine", "")),
                    "scorer": str(found[0].get("scorer", "")),
                }
            print(json.dumps({"kind": kind, "marks": marks, "stages": stages, "counts": counts}), flush=True)


def force_lengths() -> None:
    """Make vLLM generate responses of the published lengths, the only difference from a study's run."""
    from benchmarks.published_size import response_lengths
    from persona_assets.inference.vllm.engine import VllmGenerator

    lengths, batch = response_lengths(), VllmGenerator._batch

    def forced(self: VllmGenerator, prompts: Any, parameters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for each, length in zip(parameters, lengths[: len(parameters)], strict=True):
            each |= {"max_tokens": length, "ignore_eos": True, "stop_token_ids": []}
        return batch(self, prompts, parameters)

    VllmGenerator._batch = forced  # type: ignore[method-assign]


def write(
    out: Path,
    cold: dict[str, Any],
    warm: dict[str, Any],
    second: dict[str, Any],
    kept: int,
    resumed: dict[str, Any],
    digests: float,
) -> None:
    from benchmarks.published_size import published_work
    from benchmarks.reporting import heading, table, version_of
    from benchmarks.scoring import flops
    from persona_assets.checkpoints.shape import QWEN_7B

    floating = flops(QWEN_7B, published_work(QWEN_7B.vocabulary))
    runs = {"cold": cold, "compiled code cached": warm, "second checkpoint, same process": second}
    rows = []
    for name, found in runs.items():
        score, said = found["counts"]["logit_js"], found["counts"]["generations"]
        rows.append(
            {
                "run": name,
                "whole (s)": f"{found['marks']['finished']:.1f}",
                **{stage: f"{length:.1f}" for stage, length in shares(found).items()},
                "generated tokens/s": f"{said['tokens'] / said['seconds']:,.0f}",
                "scored tokens/s": f"{score['tokens'] / score['seconds']:,.0f}",
                "MFU of scoring": f"{floating / score['seconds'] / PEAK:.0%}",
                "peak memory (GiB)": f"{said['peak_memory_gib']:.0f} vLLM, {score['peak_memory_gib']:.0f} scoring",
            }
        )
    again = {asset: f"{resumed['counts'][asset]['computed']} of 11" for asset in HEAVY}
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.whole_run`, {heading()}\n"
    text += f"dagster {version_of('dagster')}, {cold['counts']['generations']['engine']}. "
    text += f"Scoring: {cold['counts']['logit_js']['scorer']}.\n\n{table(rows)}\n\n"
    text += f"![stages]({out.stem}.png)\n\n"
    text += f"Killed in `logit_js` with {kept} personas stored, then run again: "
    text += ", ".join(f"{asset} {count}" for asset, count in again.items())
    text += f" computed; {resumed['marks']['finished']:.1f} s.\n"
    text += f"Digests of one checkpoint's 15.2 GB, computed once on registration: {digests:.1f} s.\n"
    print(text)
    out.write_text(text, encoding="utf-8")
    draw({name: shares(found) for name, found in runs.items()}, out.with_suffix(".png"))


def shares(found: dict[str, Any]) -> dict[str, float]:
    """Return stage → seconds, end to end: time between two stages belongs to the first."""
    marks, stages, counts = found["marks"], found["stages"], found["counts"]
    began, ended = stages["generations"]
    writing = counts["generations"]["seconds"]
    scoring = stages["logit_js"][1] - stages["logit_js"][0]
    return {
        "imports, instance": marks["registered"],
        "vLLM's start": ended - began - writing,
        "generations": writing,
        "model, kernels": scoring - counts["logit_js"]["seconds"],
        "logit_js": counts["logit_js"]["seconds"],
        "centroids": stages["centroids"][1] - stages["centroids"][0],
        "matrices": sum(stages[asset][1] - stages[asset][0] for asset in LIGHT),
        "Dagster in between": marks["finished"]
        - marks["registered"]
        - sum(end - start for start, end in stages.values()),
    }


def draw(runs: dict[str, dict[str, float]], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, panel = plt.subplots(figsize=(8, 2.4), layout="constrained")
    left = [0.0] * len(runs)
    colours = plt.get_cmap("tab10").colors  # type: ignore[attr-defined]
    for colour, stage in zip(colours, next(iter(runs.values())), strict=False):
        lengths = [run[stage] for run in runs.values()]
        bars = panel.barh(list(runs), lengths, left=left, label=stage, color=colour)
        panel.bar_label(bars, [f"{length:.0f}" if length > 1.5 else "" for length in lengths], label_type="center")
        left = [start + length for start, length in zip(left, lengths, strict=True)]
    panel.invert_yaxis()
    panel.set_xlabel("seconds")
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=160)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer and its chat template")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/whole_run"), help="needs 32 GB of disk")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/whole_run_h200.md"))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--checkpoints", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
