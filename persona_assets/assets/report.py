"""Asset `report`: the self-contained HTML report of a checkpoint."""

from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import presentation as draw
from persona_assets import statistics
from persona_assets.assets import checkpoint_checks, checks, leakage_checks
from persona_assets.assets.decorators import light_asset
from persona_assets.files.digest import digest_of
from persona_assets.graph.groups import PRESENTATION
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, every_persona, inference_input, leakage_input, source_inputs
from persona_assets.page.lineage import report_lineage, runs_markdown
from persona_assets.page.token_texts import js_by_token
from persona_assets.study import Study

# Checks whose results the report lists.
CHECKS = [
    key for check in [*checks.CHECKS, *checkpoint_checks.CHECKS, *leakage_checks.CHECKS] for key in check.check_keys
]


@light_asset(
    PRESENTATION,
    kinds={"html"},
    ins={"generations": dg.AssetIn(partition_mapping=every_persona)}
    | leakage_input(STUDY)
    | source_inputs(STUDY, "marker_rates")
    | inference_input(STUDY),
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
    """Report of a checkpoint as one self-contained HTML page: study, results, figures, responses and provenance.

    Also contains a short Markdown version, and every table as CSV and Parquet.
    """
    instance, name = context.instance, context.partition_key
    pairs = draw.extreme_pairs(logit_js_matrix, centroid_cosine)
    made = report_lineage(instance, home, study, name, CHECKS)
    files = draw.report_files(
        title=f"Personas of {name}",
        study=facts_of(study),
        checkpoint={"name": name, "digest": digest_of(model_checkpoint), **model_checkpoint},
        logit_js_matrix=logit_js_matrix,
        centroid_cosine=centroid_cosine,
        pair_table=pair_table,
        generations=responses_of(generations),
        provenance=made,
        leakage_table=leakage.get("leakage_table"),
        samples=adapted_samples(leakage.get("marker_rates")),
        **inference_of(leakage.get("partial_correlations")),
        figures={Path(file).stem: content for file, content in figures.items() if file.endswith(".svg")},
        tokens=js_by_token(instance, home, study, name, generations, pairs),
        marker=study.marker.marker.detect if study.marker else "",
    )
    statements = leakage.get("partial_correlations")
    metadata: dict[str, Any] = {
        **({} if statements is None else {"verdict": dg.MetadataValue.md(statistics.verdict(statements).words)}),
        **draw.js_extremes(logit_js_matrix),
        **draw.js_range(logit_js_matrix),
        "bytes": len(files["report.html"]),
        "made_by": dg.MetadataValue.md(runs_markdown(made)),
    }
    return dg.Output(files, metadata=metadata)


def facts_of(study: Study) -> dict[str, Any]:
    """Return all settings of the study and its digest; paths are reduced to file names to keep folders private."""
    files = {name: path.name for name in ("leakage", "source_rates") if (path := getattr(study, name))}
    return {"name": study.name, "digest": digest_of(study.model_dump(mode="json")), **study.model_dump(), **files}


def responses_of(generations: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return all responses in one table, with their token counts if token ids are known."""
    responses = pd.concat(generations.values(), ignore_index=True)
    return responses.assign(tokens=responses.token_ids.map(len)) if "token_ids" in responses else responses


def inference_of(statements: pd.DataFrame | None) -> dict[str, Any]:
    """Return the statements, the verdict and its cosine predictor as report inputs; empty without leakage."""
    if statements is None:
        return {}
    return {
        "statements": statements,
        "verdict": statistics.verdict(statements),
        "primary_cosine": statistics.primary_of(statements),
    }


def adapted_samples(by_source: dict[str, pd.DataFrame] | None) -> pd.DataFrame | None:
    """Return the replies with each source's adapter in one table; None if there are none."""
    if not by_source:
        return None
    tables = [table[table.model == "adapted"].assign(source=source) for source, table in by_source.items()]
    return pd.concat(tables, ignore_index=True)
