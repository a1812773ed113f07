"""Assets `centroids` and `centroid_cosine`: similarity of the personas' hidden states."""

import dagster as dg
import xarray as xr

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.graph.groups import ANALYSIS_TEAM, GEOMETRY, MEASUREMENT_TEAM
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import STUDY, every_persona, per_checkpoint, per_persona
from persona_assets.graph.provenance import code_version
from persona_assets.graph.resources import Gpu
from persona_assets.graph.schemas import expected_schema
from persona_assets.page import asset_metadata
from persona_assets.runs.heavy import for_each_persona
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_persona,
    deps=["model_checkpoint", "persona_prompts"],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GEOMETRY,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "xarray"},
    metadata=expected_schema("centroids"),
    code_version=code_version(STUDY, "centroids"),
)
def centroids(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """Hidden states of a persona at the last prompt token, per layer: for each question, and their mean (the centroid).

    Layer N is the output of decoder block N, counted from 0.
    """
    for_each_persona(context, study, gpu, home, asset_metadata.centroids)


@dg.asset(
    partitions_def=per_checkpoint,
    ins={"centroids": dg.AssetIn(partition_mapping=every_persona)},
    group_name=GEOMETRY,
    owners=ANALYSIS_TEAM,
    kinds={"xarray"},
    metadata=expected_schema("centroid_cosine"),
    code_version=code_version(STUDY, "centroid_cosine"),
)
def centroid_cosine(study: dg.ResourceParam[Study], centroids: dict[str, xr.Dataset]) -> dg.Output[xr.Dataset]:
    """K×K cosine similarity between personas' centroids, per layer and centring population.

    The mean centroid of the centring population, a named group of personas, is subtracted from every centroid first.
    """
    cosine = metrics.cosine_dataset(centroids, {name: study.population(name) for name in study.centring_populations})
    heatmaps = {
        f"heatmap centred on {name}": draw.inline_markdown(
            draw.cosine_heatmaps(cosine, list(study.personas), name), name
        )
        for name in study.centring_populations
    }
    inline = {name: dg.MetadataValue.md(heatmap) for name, heatmap in heatmaps.items()}
    return dg.Output(
        cosine, metadata={**inline, **asset_metadata.centroid_cosine(cosine), **draw.cosine_extremes(cosine)}
    )
