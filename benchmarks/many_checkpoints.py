"""Dagster with 1,000 checkpoints × 111 personas: time of the page, the sensors and the staleness of a checkpoint.

    make demo
    python -m benchmarks.many_checkpoints --template dagster_home [--postgres postgresql+psycopg2://…] [--out …]

Fills a new instance with what such an instance would contain: the registry and its folders, a partition and a finished
run per checkpoint, and the latest materialisation of every partition. The events are copies of the template instance's
events, with other names, data versions and runs, written directly into Dagster's tables. Only the newest checkpoints
have the tables and images that the page shows. Everything is then timed as a user would experience it.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
from dagster._serdes import serialize_value

from persona_assets.checkpoints import Checkpoint, stamp
from persona_assets.graph.history import RECORD
from persona_assets.graph.provenance import HEAVY
from persona_assets.planning.sizes import resized
from persona_assets.runs.attempts import ATTEMPT_TAG, MEASURE, run_tags
from persona_assets.store.instance import make_home
from persona_assets.study import Study
from persona_assets.study.files import load_study

CHECKPOINT, PORT = "checkpoint", 3987
WHOLE = 20  # newest checkpoints, whose events keep everything that the page shows
LONG = 400  # metadata entries with more bytes are removed from the events of older checkpoints
GOALS = {"definitions": 2.0, "sensor tick": 1.0, "lineage page": 2.0}


class Filled:
    """New instance with a number of checkpoints of the template's study, resized to a number of personas."""

    def __init__(self, root: Path, template: Path, checkpoints: int, personas: int, postgres: str | None) -> None:
        self.home, self.template = root / "home", template
        make_home(self.home)
        if postgres:
            settings = (self.home / "dagster.yaml").read_text()
            (self.home / "dagster.yaml").write_text(
                f"{settings}\nstorage:\n  postgres:\n    postgres_url: {postgres}\n"
            )
        self.study_file = root / "study.yaml"
        study = resized(load_study("embedded"), personas)
        self.study_file.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        self.names = [f"run.checkpoint-{number:04}" for number in range(1, checkpoints + 1)]
        self.events = self.bytes = 0

    @property
    def study(self) -> Study:
        return load_study(str(self.study_file))

    def fill(self) -> None:
        """Write folders, registry, partitions, runs and events."""
        self._register()
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            instance.add_dynamic_partitions(CHECKPOINT, self.names)
            runs = self._runs(instance)
            with dg.DagsterInstance.from_config(str(self.template)) as template:
                for key in template.all_asset_keys():
                    records = template.fetch_materializations(key, limit=1).records
                    if records:
                        self._events(instance, key.to_user_string(), records[0].event_log_entry, runs)
                        print(f"{key.to_user_string()}: {self.events:,} events in all", flush=True)

    def _register(self) -> None:
        """Create a folder per checkpoint with the same few bytes: a tick only reads names, sizes and times."""
        source = self.home / "models" / "one"
        source.mkdir(parents=True)
        (source / "config.json").write_text("{}")
        (source / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
        (source / "tokenizer.json").write_text("{}")
        entries = {}
        for number, name in enumerate(self.names, start=1):
            folder = self.home / "models" / name
            shutil.copytree(source, folder, copy_function=os.link)
            entries[name] = {"path": f"models/{name}", "series": "run", "step": number}
        (self.home / "checkpoints.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))

    def _runs(self, instance: dg.DagsterInstance) -> dict[str, str]:
        """Write the run that measured each checkpoint, as the sensor looks it up."""
        runs = {}
        for name in self.names:
            tags = run_tags(self.study, name, stamp(Checkpoint(name=name, path=self.home / "models" / name)))
            run = dg.DagsterRun(
                job_name=MEASURE,
                status=dg.DagsterRunStatus.SUCCESS,
                tags={**tags, ATTEMPT_TAG: "1"},
                run_id=str(uuid.uuid4()),
            )
            instance.add_run(run)
            runs[name] = run.run_id
        return runs

    def _partitions(self, asset: str) -> Iterator[tuple[str, str | None]]:
        study = self.study
        if asset == "persona_prompts":
            yield from ((name, None) for name in study.personas)
        elif asset == "checkpoint_drift":
            yield "", None
        elif asset in HEAVY:
            chosen = study.sources if asset.startswith("marker") else tuple(study.personas)
            yield from ((name, persona) for name in self.names for persona in chosen)
        else:
            yield from ((name, None) for name in self.names)

    def _events(self, instance: dg.DagsterInstance, asset: str, entry: Any, runs: dict[str, str]) -> None:
        """Write every partition's materialisation in blocks, with the tags that Dagster would write."""
        storage = instance.event_log_storage
        shapes = {whole: _Template(entry, whole) for whole in (True, False)}
        newest = set(self.names[-WHOLE:])
        rows: list[dict[str, Any]] = []
        tags: list[dict[str, Any]] = []
        with storage.index_connection() as connection:  # type: ignore[attr-defined]
            last = connection.exec_driver_sql("SELECT COALESCE(MAX(id), 0) FROM event_logs").scalar() or 0
            for checkpoint, persona in self._partitions(asset):
                last += 1
                row, own = shapes[checkpoint in newest or not checkpoint].filled(
                    asset, checkpoint, persona, runs.get(checkpoint, ""), last
                )
                rows.append(row)
                tags += own
                self.bytes += len(row["event"])
                if len(rows) == 2_000:
                    _write(connection, rows, tags)
            _write(connection, rows, tags)
            if connection.engine.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT setval('event_logs_id_seq', (SELECT MAX(id) FROM event_logs))")
            connection.commit()
        self.events += sum(1 for _ in self._partitions(asset))
        final = storage.get_event_records(  # type: ignore[attr-defined]
            dg.EventRecordsFilter(dg.DagsterEventType.ASSET_MATERIALIZATION, asset_key=dg.AssetKey(asset)), limit=1
        )[0]
        storage.store_asset_event(final.event_log_entry, final.storage_id)  # type: ignore[attr-defined]


class _Template:
    """One event of the template as text, with placeholders for what differs."""

    def __init__(self, entry: Any, whole: bool) -> None:
        made = entry.asset_materialization
        metadata = (
            made.metadata
            if whole
            else {
                name: value
                for name, value in made.metadata.items()
                if name == RECORD or len(serialize_value(value)) < LONG
            }
        )
        self.tags = dict(made.tags or {})
        text = serialize_value(
            entry._replace(
                dagster_event=entry.dagster_event._replace(
                    event_specific_data=entry.dagster_event.event_specific_data._replace(
                        materialization=made._replace(metadata=metadata)
                    )
                )
            )
        )
        self.partition, self.run, self.version = made.partition, entry.run_id, self.tags.get("dagster/data_version", "")
        self.text, self.timestamp, self.step = text, datetime.fromtimestamp(entry.timestamp), entry.step_key

    def filled(
        self, asset: str, checkpoint: str, persona: str | None, run: str, event: int
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a row of event_logs and rows of asset_event_tags."""
        key = f"{checkpoint}|{persona}" if persona else checkpoint or None
        version = f"{event:064x}"
        text = self.text.replace(json.dumps(self.partition)[1:-1], key) if self.partition and key else self.text
        text = text.replace(self.version, version) if self.version else text
        text = text.replace(self.run, run) if self.run else text
        for dimension, value in (("checkpoint", checkpoint), ("persona", persona), ("source", persona)):
            name = f"dagster/partition/{dimension}"  # Dagster builds the partition key from these tags
            if name in self.tags:
                text = text.replace(f'"{name}": {json.dumps(self.tags[name])}', f'"{name}": {json.dumps(value)}')
        asset_key = dg.AssetKey(asset).to_string()
        tags = {name: version if name == "dagster/data_version" else value for name, value in self.tags.items()}
        for dimension, value in (("checkpoint", checkpoint), ("persona", persona), ("source", persona)):
            if f"dagster/partition/{dimension}" in tags:
                tags[f"dagster/partition/{dimension}"] = str(value)
        row = {
            "id": event,
            "run_id": run,
            "event": text,
            "dagster_event_type": "ASSET_MATERIALIZATION",
            "timestamp": self.timestamp,
            "step_key": self.step,
            "asset_key": asset_key,
            "partition": key,
        }
        about = {"event_id": event, "asset_key": asset_key, "event_timestamp": self.timestamp}
        return row, [{**about, "key": name, "value": value} for name, value in tags.items()]


def _write(connection: Any, rows: list[dict[str, Any]], tags: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(SqlEventLogStorageTable.insert(), rows)
    if tags:
        connection.execute(AssetEventTagsTable.insert(), tags)
    rows.clear()
    tags.clear()


IMPORT = (
    "import time; start = time.perf_counter(); import persona_assets.definitions; print(time.perf_counter() - start)"
)
TICKS = """
import json, time
from dagster import DagsterInstance, build_sensor_context
from persona_assets.definitions import STUDY, Home
from persona_assets.automation.sensors import new_checkpoints, study_and_registry

given = {"study": STUDY, "home": Home.of_environment()}
with DagsterInstance.get() as instance:
    took = {}
    for number in range(4):
        start = time.perf_counter()
        with build_sensor_context(instance=instance) as context:
            tick = new_checkpoints(context, **given)
        took[f"new_checkpoints {number}"] = time.perf_counter() - start
        assert not tick.run_requests
    start = time.perf_counter()
    with build_sensor_context(instance=instance) as context:
        study_and_registry(context, **given)
    took["study_and_registry"] = time.perf_counter() - start
    print(json.dumps(took))
"""
STANDINGS = """
import sys, time
from persona_assets.definitions import defs
from persona_assets.graph.history import latest_fingerprints
from persona_assets.graph.partitions import STUDY, partition_key
from dagster import DagsterInstance

with DagsterInstance.get() as instance:
    start = time.perf_counter()
    for asset in ("generations", "centroids", "logit_js"):
        found = latest_fingerprints(instance, asset, [partition_key(sys.argv[1], each) for each in STUDY.personas])
        assert len(found) == len(STUDY.personas), len(found)
    print(time.perf_counter() - start)
"""


def timed(filled: Filled, code: str, *arguments: str) -> str:
    """Return what a new process prints that opens the filled instance."""
    environment = os.environ | {"DAGSTER_HOME": str(filled.home), "PERSONA_ASSETS_STUDY": str(filled.study_file)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip().splitlines()[-1]


# The page's queries with the fields that it draws; its own queries have more fields of the same kind.
QUERIES = {
    "graph": """{ assetNodes { id assetKey { path } groupName kinds opNames partitionDefinition { name }
        dependencyKeys { path } dependedByKeys { path } } }""",
    "state of every node": """query($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) { id assetKey { path }
        assetMaterializations(limit: 1) { timestamp runId } partitionStats { numMaterialized numPartitions numFailed
        numMaterializing } } assetsLatestInfo(assetKeys: $keys) { assetKey { path } latestRun { id status } } }""",
    "partitions of logit_js": """{ assetNodeOrError(assetKey: {path: ["logit_js"]}) { ... on AssetNode { id
        partitionKeysByDimension { name partitionKeys } assetPartitionStatuses { ... on MultiPartitionStatuses {
        ranges { primaryDimStartKey primaryDimEndKey secondaryDim { ... on DefaultPartitionStatuses {
        materializedPartitions } } } } } } } }""",
    "staleness of one partition": """{ assetNodeOrError(assetKey: {path: ["report"]}) { ... on AssetNode { id
        staleStatus(partition: "PARTITION") staleCauses(partition: "PARTITION") { reason } } } }""",
    "runs": "{ runsOrError(limit: 30) { ... on Runs { results { id status jobName tags { key value } } } } }",
}


class Page:
    """Dagster's web server on the filled instance."""

    def __init__(self, filled: Filled) -> None:
        environment = os.environ | {"DAGSTER_HOME": str(filled.home), "PERSONA_ASSETS_STUDY": str(filled.study_file)}
        command = [sys.executable, "-m", "persona_assets.page.serve", "page"]
        command += ["-m", "persona_assets.definitions", "-h", "127.0.0.1", "-p", str(PORT)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> "Page":
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                self.ask("{ version }")
                return self
            except OSError:
                time.sleep(0.2)
        raise SystemExit("the page does not respond")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait()

    def ask(self, query: str, **variables: Any) -> Any:
        """Return the data of a query's response."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{PORT}"}
        request = urllib.request.Request(f"http://127.0.0.1:{PORT}/graphql", body, headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            found = json.load(answer)
        if "errors" in found:
            raise SystemExit(str(found["errors"])[:2000])
        return found["data"]


def seconds_of(ask: Callable[[], Any], times: int = 3) -> tuple[float, float]:
    """Return the seconds of the first call and the median of the following ones."""
    took = []
    for _ in range(times + 1):
        start = time.perf_counter()
        ask()
        took.append(time.perf_counter() - start)
    return took[0], statistics.median(took[1:])


def measure(filled: Filled) -> list[tuple[str, str, str]]:
    """Yield rows: what, seconds the first time, seconds after that."""
    loads = [float(timed(filled, IMPORT)) for _ in range(3)]
    rows = [("definitions load", f"{loads[0]:.2f}", f"{statistics.median(loads[1:]):.2f}")]
    ticks = json.loads(timed(filled, TICKS))
    again = statistics.median(ticks[f"new_checkpoints {number}"] for number in (1, 2, 3))
    rows.append(("tick of `new_checkpoints`", f"{ticks['new_checkpoints 0']:.2f}", f"{again:.2f}"))
    rows.append(("tick of `study_and_registry`", f"{ticks['study_and_registry']:.2f}", ""))
    rows.append(
        ("staleness of a checkpoint's 333 artefacts", f"{float(timed(filled, STANDINGS, filled.names[-1])):.2f}", "")
    )
    with Page(filled) as page:
        nodes = page.ask(QUERIES["graph"])["assetNodes"]
        keys = [{"path": node["assetKey"]["path"]} for node in nodes]
        for name, query in QUERIES.items():
            asked = query.replace("PARTITION", filled.names[-1])
            given = {"keys": keys} if "$keys" in query else {}
            first, then = seconds_of(lambda asked=asked, given=given: page.ask(asked, **given))
            rows.append((f"page: {name}", f"{first:.2f}", f"{then:.2f}"))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Fill the instance, measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", type=Path, required=True, help="an instance that `make demo` created")
    parser.add_argument("--checkpoints", type=int, default=1000)
    parser.add_argument("--personas", type=int, default=111)
    parser.add_argument("--postgres", help="URL of an empty database, postgresql+psycopg2://…; default: SQLite")
    parser.add_argument("--at", type=Path, help="keep the filled instance in this folder, or reuse it")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    root = given.at or Path(tempfile.mkdtemp(prefix="many-checkpoints-"))
    there = (root / "home").exists()
    filled = Filled(root, given.template.absolute(), given.checkpoints, given.personas, given.postgres)
    start = time.perf_counter()
    if not there:
        filled.fill()
        print(
            f"filled in {time.perf_counter() - start:.0f} s: {filled.events:,} events, {filled.bytes / 2**20:,.0f} MiB"
        )
    rows = measure(filled)
    kind = "PostgreSQL" if given.postgres else "SQLite"
    lines = [
        f"{kind}, {given.checkpoints:,} checkpoints × {given.personas} personas, {filled.events:,} events of "
        f"{filled.bytes / 2**20:,.0f} MiB, {date.today()}.",
        "",
        "| seconds | first | again |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    if given.at is None:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
