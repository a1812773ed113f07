"""Assets `centroids` and `centroid_cosine`: similarity of the personas' hidden states."""

import dagster as dg
import xarray as xr

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.assets.decorators import heavy_asset, light_asset
from persona_assets.graph.groups import GEOMETRY
from persona_assets.graph.partitions import every_persona, per_persona
from persona_assets.page import asset_metadata
from persona_assets.study import Study


@heavy_asset(GEOMETRY, per_persona, kinds={"huggingface", "xarray"}, deps=["persona_prompts"])
def centroids(stored: xr.Dataset) -> asset_metadata.Metadata:
    """Hidden states of a persona at the last prompt token, per layer: for each question, and their mean (the centroid).

    Layer N is the output of decoder block N, counted from 0.
    """
    return asset_metadata.centroids(stored)


@light_asset(GEOMETRY, kinds={"xarray"}, ins={"centroids": dg.AssetIn(partition_mapping=every_persona)})
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
