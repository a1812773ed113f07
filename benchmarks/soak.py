"""Kills runs with SIGKILL at random moments, resumes them until they finish, and compares the results.

    python -m benchmarks.soak --kills 50 --out benchmarks/results/soak.md

Uses the tests' small study on a random model of three blocks; jobs, files, database and training are real. An
undisturbed run gives the expected result. Each round uses a new instance: `persona-assets run` is started and killed
after a random time, again and again, until a run finishes by itself. The store must then contain the same bytes as
after the undisturbed run, except in the report, which contains times. A stored persona must never be computed again, so
a kill only costs the persona in progress.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.reporting import heading, table
from persona_assets.files.digest import digest_of_path
from persona_assets.graph.home import Home
from persona_assets.inference.embedded_model import ensure_embedded_model

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "tests" / "small_study.yaml"
DONE = re.compile(r"(\w+) \d+/\d+ (\w+): \d+ tokens in")
STAGES = ("identify", "generations", "centroids", "logit_js", "marker_adapter", "marker_rates", "tables and report")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/soak.md"))
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        study = prepare(Path(folder))
        whole, started = Path(folder) / "whole", time.perf_counter()
        home(Path(folder), whole)
        finished, said = run(whole, study)
        assert finished, said
        length = time.perf_counter() - started
        expected, rows, kills = contents(whole), [], 0
        while kills < arguments.kills:
            row = one_round(Path(folder), study, expected, length, chance, arguments.kills - kills)
            kills += row["kills"]
            rows.append(row)
            print(row, flush=True)
    write(arguments.out, rows, length, len(expected))


def prepare(folder: Path) -> Path:
    """Create a random model with the embedded model's tokenizer, and the small study on its blocks."""
    import torch
    import yaml
    from transformers import LlamaConfig, LlamaForCausalLM

    embedded = ensure_embedded_model(ROOT / "dagster_home" / "models")
    (folder / "model").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(embedded / name, folder / "model")
    torch.manual_seed(42)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    own = json.loads((embedded / "config.json").read_text())
    ends = {name: own[name] for name in ("bos_token_id", "eos_token_id", "vocab_size")}
    LlamaForCausalLM(LlamaConfig(**shape, **ends)).save_pretrained(folder / "model")
    study = folder / "study.yaml"
    small = yaml.safe_load(SMALL.read_text()) | {"layers": [1, 2]}
    study.write_text(yaml.safe_dump(small, sort_keys=False))
    return study


def home(folder: Path, root: Path) -> Home:
    root.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", root)
    new = Home(root)
    new.registry.add("tiny", {"path": str(folder / "model")})
    return new


def run(root: Path, study: Path, seconds: float | None = None) -> tuple[bool, str]:
    """Run and kill after a number of seconds; return whether the run finished by itself, and its output."""
    command = [sys.executable, "-m", "persona_assets.cli", "run", "--study", str(study), "--checkpoint", "tiny"]
    environment = os.environ | {"DAGSTER_HOME": str(root)}
    with (root / "log").open("w+") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        log.seek(0)
        said = log.read()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(said[-4000:])
    return process.returncode == 0, said


def contents(root: Path) -> dict[str, str]:
    """Return asset/fingerprint → SHA-256 of every finished artefact, without times in the report."""
    store = Home(root).store
    assets = sorted(path.name for path in store.root.iterdir() if path.name != "report")
    return {
        f"{each.asset}/{each.fingerprint}": digest_of_path(each.path) for name in assets for each in store.all(name)
    }


def one_round(
    folder: Path, study: Path, expected: dict[str, str], length: float, chance: random.Random, most: int
) -> dict[str, int]:
    root = folder / f"round{chance.random()}"
    home(folder, root)
    done, stages, kills = Counter[tuple[str, str]](), Counter[str](), 0
    while True:
        finished, said = run(root, study, chance.uniform(0.3, 1.0) * length if kills < most else None)
        found = [match.groups() for match in DONE.finditer(said)]
        done.update((asset, persona) for asset, persona in found)
        if finished:
            break
        kills += 1
        stages[stage(said)] += 1
    left = contents(root)
    differences = sum(left.get(name) != digest for name, digest in expected.items()) + len(
        left.keys() - expected.keys()
    )
    partial = len(list((root / "artefacts").glob("*/.*.partial")))
    shutil.rmtree(root)
    again = sum(count - 1 for count in done.values())
    return {"kills": kills, "computed again": again, "differences": differences, "left over": partial, **stages}


def stage(said: str) -> str:
    """Return the last step that began."""
    steps = re.findall(r"(model_checkpoint|generations|centroids|logit_js|marker_adapter|marker_rates)\b", said)
    if "logit_js_matrix" in said or "pair_table" in said or "figures" in said:
        return "tables and report"
    return {"model_checkpoint": "identify"}.get(steps[-1], steps[-1]) if steps else "identify"


def write(out: Path, rows: list[dict[str, int]], length: float, artefacts: int) -> None:
    total = Counter[str]()
    for row in rows:
        total.update(row)
    text = f"{(__doc__ or '').splitlines()[0]}\n\n`python -m benchmarks.soak`, {heading()}\n"
    text += f"An undisturbed run takes {length:.0f} s and stores {artefacts} artefacts in addition to its report.\n\n"
    text += table([{"round": number, **{key: row.get(key, 0) for key in ROUND}} for number, row in enumerate(rows, 1)])
    text += "\n\nKilled while working on: " + ", ".join(f"{name} {total[name]}" for name in STAGES) + ".\n"
    text += f"{total['kills']} kills; stored personas computed again: {total['computed again']}; artefacts that are "
    text += f"missing, unexpected or different: {total['differences']}; partly written files left: "
    text += f"{total['left over']}, which nothing reads and `persona-assets doctor --mend` deletes.\n"
    print(text)
    out.write_text(text, encoding="utf-8")


ROUND = ("kills", "computed again", "differences", "left over")

if __name__ == "__main__":
    main()
