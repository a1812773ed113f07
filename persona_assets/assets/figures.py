"""Asset `figures`: the standard figures of a checkpoint, as files and inline on Dagster's page."""

from typing import Any

import dagster as dg
import pandas as pd
import xarray as xr

from persona_assets import metrics, statistics
from persona_assets import presentation as draw
from persona_assets.assets.decorators import light_asset
from persona_assets.graph.groups import PRESENTATION
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, every_persona, inference_input, leakage_input
from persona_assets.page.token_texts import js_by_token
from persona_assets.study import Study


@light_asset(
    PRESENTATION,
    kinds={"matplotlib"},
    ins={"generations": dg.AssetIn(partition_mapping=every_persona)} | leakage_input(STUDY) | inference_input(STUDY),
)
def figures(
    context: dg.AssetExecutionContext,
    study: dg.ResourceParam[Study],
    home: dg.ResourceParam[Home],
    logit_js_matrix: xr.Dataset,
    centroid_cosine: xr.Dataset,
    pair_table: pd.DataFrame,
    generations: dict[str, pd.DataFrame],
    **leakage: pd.DataFrame,
) -> dg.Output[dict[str, bytes]]:
    """Figures of a checkpoint as PNG, PDF and SVG.

    JS heatmap and map of the personas, cosine per layer, and JS along the response on which personas differ most. With
    leakage: every dyad and source by the study's outcome, its relation to the predictors, the influence of single
    personas, and the outcomes' reliability and variance components.
    """
    furthest = draw.extreme_pairs(logit_js_matrix, centroid_cosine)[:1]
    drawn = draw.standard_figures(
        logit_js_matrix,
        centroid_cosine,
        pair_table,
        study.baseline,
        tokens=js_by_token(context.instance, home, study, context.partition_key, generations, furthest),
        **(leakage_inputs(study, pair_table, **leakage) if leakage else {}),
    )
    writers = {"png": draw.to_png, "pdf": draw.to_pdf, "svg": draw.to_svg}
    files = {f"{name}.{kind}": write(figure) for name, figure in drawn.items() for kind, write in writers.items()}
    inline = {name: dg.MetadataValue.md(draw.inline_markdown(files[f"{name}.png"], name)) for name in drawn}
    return dg.Output(files, metadata=inline)


def leakage_inputs(
    study: Study, pair_table: pd.DataFrame, leakage_table: pd.DataFrame, partial_correlations: pd.DataFrame
) -> dict[str, Any]:
    """Return the additional inputs that the leakage figures need."""
    primary = statistics.primary_of(partial_correlations)
    counted = study.source_rates
    return {
        "leakage_table": leakage_table,
        "partial_correlations": partial_correlations,
        "primary_cosine": primary,
        "trends": statistics.trend(
            pair_table,
            ["js", *([primary] if primary else [])],
            level=study.statistics.level,
            outcome=study.statistics.outcome,
        ),
        "source_rates": metrics.read_source_rates(counted, study.personas)
        if counted
        else statistics.coupling_table(pair_table, study.baseline),
    }
