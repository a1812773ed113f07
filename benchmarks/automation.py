"""Time from a complete checkpoint folder to its report, without the model's work: the cost of automation itself.

    python -m benchmarks.automation --measured HOME --out benchmarks/results/automation.md

HOME is an instance in which the study has been measured. Its heavy artefacts are copied into a new instance without
their events, so every heavy step finds its results in the store. A daemon is started, the same weights are saved into a
watched folder, and the time is measured from then on. This is done for each pattern: the project's own (one run for
everything), a chain of run-status sensors, and declarative automation; the last two are in
`benchmarks.automation_patterns`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import dagster as dg

from persona_assets.graph.history import latest_events
from persona_assets.graph.home import Home
from persona_assets.graph.provenance import HEAVY

ROOT = Path(__file__).resolve().parents[1]
PATTERNS = {
    "one run (the project's)": ("persona_assets.definitions", {"PERSONA_ASSETS_AUTOMATE": "1"}),
    "chain of run-status sensors": ("benchmarks.automation_patterns", {"PATTERN": "chain"}),
    "declarative, eager()": ("benchmarks.automation_patterns", {"PATTERN": "declarative"}),
}
NAME = "run.checkpoint-1"


def main() -> None:
    """Print the table and write it to --out."""
    arguments = _arguments()
    rows = []
    for pattern in arguments.patterns.split("+"):
        title = next(title for title in PATTERNS if title.startswith(pattern))
        for _ in range(arguments.repeats):
            rows.append((title, *_measured(title, arguments)))
            print(*rows[-1], flush=True)
    lines = [
        "| pattern | folder → first request (s) | folder → report (s) | of that, light tables (s) | runs | double |",
        "| --- | --- | --- | --- | --- | --- |",
        *(f"| {title} | {first:.1f} | {report:.1f} | {light:.1f} | {runs} | {twice} |"
          for title, first, report, light, runs, twice in rows),
    ]  # fmt: skip
    heading = (
        f"{__doc__.splitlines()[0]}\n\n`python -m benchmarks.automation`, {date.today()}, study {arguments.study}, "
        f"{os.cpu_count()} cores, dagster {version('dagster')}. Heavy artefacts were already stored; each row is "
        "one checkpoint in a new instance. Double: asset partitions materialised more than once.\n\n"
    )
    table = heading + "\n".join(lines) + "\n"
    print(table)
    if arguments.out:
        arguments.out.write_text(table)


def _measured(title: str, arguments: argparse.Namespace) -> tuple[float, float, float, int, int]:
    """Return seconds to the first run, to the report and of the light job, runs, and partitions computed twice."""
    module, extra = PATTERNS[title]
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        (home.root / "artefacts").mkdir(parents=True)
        shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home.root)
        for asset in (*HEAVY, "base_samples"):
            if (made := arguments.measured / "artefacts" / asset).is_dir():
                shutil.copytree(made, home.root / "artefacts" / asset, copy_function=os.link)
        watched = Path(folder) / "run"
        watched.mkdir()
        home.watched.add("run", {"directory": str(watched)})
        environment = {**os.environ, **extra, "DAGSTER_HOME": str(home.root), "PERSONA_ASSETS_STUDY": arguments.study}
        log = (Path(folder) / "log").open("w")
        command = [sys.executable, "-m", "dagster", "dev", "-m", module, "-p", str(arguments.port)]
        # Opened before the server starts, so that only one process creates the databases.
        with dg.DagsterInstance.from_config(str(home.root)) as instance:
            server = subprocess.Popen(
                command, env=environment, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )
            try:
                while not instance.get_daemon_heartbeats().get("SENSOR"):
                    time.sleep(0.5)
                time.sleep(20)  # until after the first ticks
                shutil.copytree(arguments.model, watched / ".checkpoint-1")
                (watched / ".checkpoint-1").rename(watched / "checkpoint-1")
                return _until_report(instance, time.time(), arguments.limit, Path(folder) / "log")
            finally:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait(30)
                log.close()


def _until_report(
    instance: dg.DagsterInstance, saved: float, limit: float, log: Path
) -> tuple[float, float, float, int, int]:
    while (
        "report" not in (found := {a: latest_events(instance, a, [NAME]) for a in ("report",)}) or not found["report"]
    ):
        if time.time() - saved > limit:
            print(log.read_text()[-3000:])
            raise SystemExit(f"no report after {limit} s")
        time.sleep(0.25)
    # Leave time for what follows the report and for anything that is computed again.
    record = instance.fetch_materializations(dg.AssetKey("report"), limit=1).records[0]
    time.sleep(30)
    records = instance.get_run_records(ascending=True)
    light = [
        (each.end_time or 0) - (each.start_time or 0)
        for each in records
        if each.dagster_run.job_name == "compare_personas"
    ]
    counts: dict[tuple[str, str], int] = {}
    for each in records:
        for entry in instance.all_logs(each.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            event = entry.dagster_event
            if event and event.asset_key and event.asset_key != dg.AssetKey("checkpoint_drift"):
                key = (event.asset_key.to_user_string(), str(event.partition))
                counts[key] = counts.get(key, 0) + 1
    first = records[0].create_timestamp.timestamp() - saved
    return first, record.timestamp - saved, sum(light), len(records), sum(n - 1 for n in counts.values())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, required=True, help="instance in which the study was measured")
    parser.add_argument("--model", type=Path, default=ROOT / "dagster_home/models/smollm2-135m-instruct")
    parser.add_argument("--study", default="embedded")
    parser.add_argument("--patterns", default="one run+chain+declarative")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--port", type=int, default=3199)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
