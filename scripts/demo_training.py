"""Trains the embedded model while Dagster's daemon measures every saved checkpoint; prints the times of each step.

`make demo-training` runs it. Dagster's web interface is served meanwhile, and all results remain in the instance.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pandas as pd

from persona_assets.graph.history import latest_events
from persona_assets.graph.home import Home
from persona_assets.inference.embedded_model import ensure_embedded_model
from persona_assets.runs.attempts import CHECKPOINT_TAG, MEASURE

ROOT = Path(__file__).resolve().parents[1]
BASE, STUDY, STEPS, EVERY = "smollm2-135m-instruct", "training_run", 32, 8
PORT = os.environ.get("PORT", "3000")
LONGEST = 45 * 60


def main() -> None:
    home = Home.of_environment()
    home.root.mkdir(parents=True, exist_ok=True)
    model = ensure_embedded_model(home.models)
    home.registry.add(BASE, {"path": str(model.relative_to(home.root))})
    series = f"run-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    output = home.root / "training_runs" / series
    output.mkdir(parents=True)
    home.watched.add(series, {"directory": str(output.relative_to(home.root)), "base": BASE})
    names = [f"{series}.checkpoint-{step}" for step in range(EVERY, STEPS + 1, EVERY)]
    with dg.DagsterInstance.get() as instance, page(home):
        print(f"web interface and daemon: http://127.0.0.1:{PORT}; watching {output}", flush=True)
        saved = train(model, output)
        follow(instance, names)
        print(timeline(instance, names, saved).to_string(index=False))
    drift = latest_drift(instance)
    print(f"drift     {drift}\nview it with `make ui STUDY={STUDY}`")


@contextmanager
def page(home: Home) -> Iterator[None]:
    """Run Dagster's web interface and daemon in separate processes, measuring new checkpoints."""
    command = [sys.executable, "-m", "persona_assets.cli", "ui", "--study", STUDY, "--automate", "--port", PORT]
    with (home.root / "demo_training.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield
        finally:
            server.terminate()
            server.wait(30)


def train(model: Path, output: Path) -> dict[str, float]:
    """Train to the end; return when each checkpoint's last file was written."""
    script = [sys.executable, str(ROOT / "examples" / "training_run.py")]
    options = {"model": model, "output": output, "study": STUDY, "steps": STEPS, "save-every": EVERY}
    subprocess.run([*script, *(f"--{name}={value}" for name, value in options.items())], check=True)
    return {
        f"{output.name}.{folder.name}": max(file.stat().st_mtime for file in folder.iterdir())
        for folder in output.glob("checkpoint-*")
    }


def follow(instance: dg.DagsterInstance, names: list[str]) -> None:
    """Wait until every checkpoint has its report, and print each one as it finishes."""
    deadline, seen = time.monotonic() + LONGEST, set[str]()
    while len(seen) < len(names):
        if time.monotonic() > deadline:
            sys.exit(f"not finished within {LONGEST // 60} minutes; see {os.environ['DAGSTER_HOME']}/demo_training.log")
        done = {run.tags[CHECKPOINT_TAG] for run in measured(instance)} & set(names)
        for name in sorted(done - seen):
            print(f"report    {name}", flush=True)
        seen |= done
        time.sleep(2)


def measured(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs that measured a checkpoint completely."""
    return list(instance.get_runs(dg.RunsFilter(job_name=MEASURE, statuses=[dg.DagsterRunStatus.SUCCESS])))


def timeline(instance: dg.DagsterInstance, names: list[str], saved: dict[str, float]) -> pd.DataFrame:
    """Return when each checkpoint was saved, and the seconds until it was picked up, started, and had its report."""
    reports = latest_events(instance, "report", names)
    rows = []
    for name in names:
        tags = {CHECKPOINT_TAG: name}
        records = instance.get_run_records(dg.RunsFilter(job_name=MEASURE, tags=tags), ascending=True)
        first, last = records[0], records[-1]
        rows.append(
            {
                "checkpoint": name,
                "saved": f"{datetime.fromtimestamp(saved[name], UTC):%H:%M:%S}",
                "picked up": round(first.create_timestamp.timestamp() - saved[name], 1),
                "started": round((last.start_time or 0) - saved[name], 1),
                "report": round((last.end_time or 0) - saved[name], 1),
                "measuring took": round((last.end_time or 0) - (last.start_time or 0), 1),
                "runs": len(records),
                "same as": "" if name in reports else "another checkpoint",
            }
        )
    return pd.DataFrame(rows)


def latest_drift(instance: dg.DagsterInstance) -> str:
    """Return the path of the figure that compares all checkpoints."""
    event = instance.get_latest_materialization_event(dg.AssetKey("checkpoint_drift"))
    if event is None or event.asset_materialization is None:
        return "not materialised"
    return f"{event.asset_materialization.metadata['path'].value}/checkpoint_drift.png"


if __name__ == "__main__":
    main()
