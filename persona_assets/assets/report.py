"""What a colleague is sent."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import presentation as draw
from persona_assets.assets.pictures import PRESENTATION
from persona_assets.orchestration.history import latest_artefacts, latest_fingerprints
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.jobs import LIGHT_ASSETS
from persona_assets.orchestration.page import asset_address, run_address
from persona_assets.orchestration.partitions import (
    STUDY,
    every_persona,
    inference_input,
    leakage_input,
    partition_key,
    per_checkpoint,
    samples_input,
)
from persona_assets.orchestration.provenance import HEAVY, IMPORTED_HEAVY, code_version, personas_of
from persona_assets.statistics import primary_of, verdict
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_checkpoint,
    ins={"generations": dg.AssetIn(partition_mapping=every_persona)}
    | leakage_input(STUDY)
    | samples_input(STUDY)
    | inference_input(STUDY),
    group_name=PRESENTATION,
    kinds={"html"},
    code_version=code_version(STUDY, "report"),
)
def report(
    context: dg.AssetExecutionContext,
    study: dg.ResourceParam[Study],
    home: dg.ResourceParam[Home],
    model_checkpoint: dict[str, Any],
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    pair_table: pd.DataFrame,
    figures: dict[str, bytes],
    generations: dict[str, pd.DataFrame],
    **leakage: Any,
) -> dg.Output[dict[str, bytes]]:
    """One self-contained HTML page: what was measured, the numbers, the pictures, the texts, how it was made."""
    responses = pd.concat(generations.values(), ignore_index=True)
    made = how_it_was_made(context.instance, home, study, context.partition_key)
    page = draw.render_report(
        title=f"Personas of {context.partition_key}",
        study={"name": study.name, **study.model_dump(exclude={"name"})},
        checkpoint={"name": context.partition_key, **model_checkpoint},
        logit_js_matrix=logit_js_matrix,
        centroid_cosine=centroid_cosine,
        pair_table=pair_table,
        generations=responses.assign(tokens=responses.token_ids.map(len)) if "token_ids" in responses else responses,
        provenance=made | {"tables": tables_of(context.instance, context.partition_key)},
        leakage_table=leakage.get("leakage_table"),
        samples=adapted_samples(leakage.get("marker_rates")),
        **inference_of(leakage.get("partial_correlations")),
        figures={Path(name).stem: file for name, file in figures.items() if name.endswith(".svg")},
    )
    return dg.Output(
        {"report.html": page.encode()},
        metadata={
            "bytes": len(page.encode()),
            **draw.js_range(logit_js_matrix),
            **draw.js_extremes(logit_js_matrix),
            "made_by": dg.MetadataValue.md(runs_markdown(made)),
        },
    )


def inference_of(statements: pd.DataFrame | None) -> dict[str, Any]:
    """Statements, their verdict and the cosine that it is about, where there is leakage."""
    if statements is None:
        return {}
    return {
        "statements": statements,
        "verdict": verdict(statements),
        "primary_cosine": primary_of(statements),
    }


def adapted_samples(by_source: dict[str, pd.DataFrame] | None) -> pd.DataFrame | None:
    """Every source's replies under its adapter in one table, or nothing where there are none."""
    if not by_source:
        return None
    tables = [table[table.model == "adapted"].assign(source=source) for source, table in by_source.items()]
    return pd.concat(tables, ignore_index=True)


def how_it_was_made(instance: dg.DagsterInstance, home: Home, study: Study, checkpoint: str) -> dict[str, Any]:
    """What each heavy stage cost over all personas, and what it ran on."""
    made: dict[str, Any] = {}
    for asset in HEAVY:
        keys = [partition_key(checkpoint, persona) for persona in personas_of(study, asset)]
        if not keys or (study.imported and asset not in IMPORTED_HEAVY):
            continue
        artefacts = list(latest_artefacts(instance, home.store, asset, keys).values())
        if brought := artefacts[0].made_from.get("imported"):
            made[asset] = {"imported from": brought}
            continue
        tokens = sum(artefact.measured["tokens"] for artefact in artefacts)
        runs = list(dict.fromkeys(artefact.measured["run"] for artefact in artefacts))
        seconds = sum(artefact.measured["seconds"] for artefact in artefacts)
        made[asset] = {
            "tokens": tokens,
            "seconds": round(seconds, 1),
            "tokens a second": round(tokens / seconds, 1),
            "peak memory (GiB)": max(artefact.measured["peak_memory_gib"] for artefact in artefacts),
            **artefacts[0].made_from["environment"],
            "runs": [draw.Link(run[:8], run_address(run)) for run in runs],
            "in the page": draw.Link(asset, asset_address(asset, keys[0])),
        }
    return made


def tables_of(instance: dg.DagsterInstance, checkpoint: str) -> dict[str, draw.Link]:
    """What the report is made from: each table by the digest of all that it was made from, linked to the page."""
    tables = [asset for asset in LIGHT_ASSETS if asset != "report"]
    latest = {asset: latest_fingerprints(instance, asset, [checkpoint]) for asset in ("model_checkpoint", *tables)}
    return {
        asset: draw.Link(found[checkpoint][:12], asset_address(asset, checkpoint))
        for asset, found in latest.items()
        if checkpoint in found
    }


def runs_markdown(made: dict[str, Any]) -> str:
    """Which runs computed what the report stands on, as links."""
    return "\n".join(
        f"- {asset}: " + ", ".join(f"[{run.text}]({run.url})" for run in facts.get("runs", []))
        for asset, facts in made.items()
    )
