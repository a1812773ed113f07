"""Lineage of a report: stages with their cost and runs, imported files, check results, and tables."""

from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import dagster as dg

from persona_assets import presentation
from persona_assets.graph.history import latest_artefacts, latest_fingerprints
from persona_assets.graph.home import Home
from persona_assets.graph.jobs import LIGHT_ASSETS
from persona_assets.graph.page_urls import asset_address, run_address
from persona_assets.graph.partitions import partition_key
from persona_assets.graph.provenance import HEAVY, IMPORTED_HEAVY, IMPORTED_LIGHT, personas_of
from persona_assets.store.artefacts import Artefact
from persona_assets.study import Study

# Number of latest executions of a check that are searched for one of this checkpoint.
_SEARCHED = 50


def report_lineage(
    instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str, checks: Iterable[dg.AssetCheckKey]
) -> dict[str, Any]:
    """Return how everything in a checkpoint's report was produced, as nested mappings with links to Dagster's page."""
    tables = ("model_checkpoint", *(asset for asset in LIGHT_ASSETS if asset != "report"))
    found: dict[str, Any] = {
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "persona assets": version("persona-assets"),
        "stages": stage_costs(instance, home, study, checkpoint),
        "imported": imported_files(instance, home, study, checkpoint) if study.imported else None,
        "checks": check_results(instance, checkpoint, checks),
        "tables": {
            asset: presentation.Link(latest[checkpoint][:12], asset_address(asset, checkpoint))
            for asset in tables
            if checkpoint in (latest := latest_fingerprints(instance, asset, [checkpoint]))
        },
    }
    return {name: value for name, value in found.items() if value}


def stage_costs(instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str) -> dict[str, Any]:
    """Return the cost of each heavy stage over all personas and its environment; empty for an imported run."""
    if study.imported:
        return {}
    made: dict[str, Any] = {}
    for asset in HEAVY:
        keys = [partition_key(checkpoint, persona) for persona in personas_of(study, asset)]
        if not keys or not latest_fingerprints(instance, asset, keys):  # instances of 0.1.0 lack the log-probabilities
            continue
        artefacts = list(latest_artefacts(instance, home.store, asset, keys).values())
        tokens = sum(artefact.measured["tokens"] for artefact in artefacts)
        runs = list(dict.fromkeys(artefact.measured["run"] for artefact in artefacts))
        seconds = sum(artefact.measured["seconds"] for artefact in artefacts)
        made[asset] = {
            "tokens": tokens,
            "seconds": round(seconds, 1),
            "tokens per second": round(tokens / seconds, 1),
            "peak memory (GiB)": max(artefact.measured["peak_memory_gib"] for artefact in artefacts),
            **artefacts[0].made_from["environment"],
            "runs": [presentation.Link(run[:8], run_address(run)) for run in runs],
            "asset page": presentation.Link(asset, asset_address(asset, keys[0])),
        }
    return made


def imported_files(instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str) -> dict[str, str]:
    """Return the SHA-256 of every file of a published run from which an artefact was imported."""
    heavy = {asset: [partition_key(checkpoint, persona) for persona in study.personas] for asset in IMPORTED_HEAVY}
    files: dict[str, str] = {}
    for asset, keys in {**heavy, **{asset: [checkpoint] for asset in IMPORTED_LIGHT}}.items():
        artefacts: Iterable[Artefact] = latest_artefacts(instance, home.store, asset, keys).values()
        for artefact in artefacts:
            files |= {str(name): str(sha) for name, sha in artefact.made_from["imported"].items()}
    return dict(sorted(files.items()))


def check_results(instance: dg.DagsterInstance, checkpoint: str, checks: Iterable[dg.AssetCheckKey]) -> dict[str, str]:
    """Return the latest result of every check that has run on a checkpoint."""
    results: dict[str, str] = {}
    for key in sorted(checks):
        for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=_SEARCHED):
            found = (
                record.event.dagster_event.event_specific_data if record.event and record.event.dagster_event else None
            )
            if not isinstance(found, dg.AssetCheckEvaluation):  # planned, or never finished
                continue
            if _is_of(checkpoint, found.partition) or _run_is_of(instance, record.run_id, checkpoint):
                outcome = "passed" if found.passed else "failed"
                results[f"{key.asset_key.to_user_string()}: {key.name}"] = (
                    f"{outcome}: {found.description}" if found.description else outcome
                )
                break
    return results


def runs_markdown(made: dict[str, Any]) -> str:
    """Return links to the runs that computed the report's stages, as Markdown."""
    return "\n".join(
        f"- {asset}: " + ", ".join(f"[{run.text}]({run.url})" for run in facts["runs"])
        for asset, facts in made.get("stages", {}).items()
    )


def _run_is_of(instance: dg.DagsterInstance, run_id: str, checkpoint: str) -> bool:
    run = instance.get_run_by_id(run_id)
    return run is not None and any(_is_of(checkpoint, value) for value in run.tags.values())


def _is_of(checkpoint: str, partition: str | None) -> bool:
    return partition is not None and (partition == checkpoint or partition.startswith(f"{checkpoint}|"))
