"""Assets `logit_js` and `logit_js_matrix`: divergence between the personas' next-token distributions."""

import dagster as dg
import xarray as xr

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.assets.decorators import heavy_asset, light_asset
from persona_assets.graph.groups import DIVERGENCE
from persona_assets.graph.io_managers import VARIABLES
from persona_assets.graph.partitions import every_persona, every_prompt, per_generator
from persona_assets.page import asset_metadata
from persona_assets.study import Study

# Variables that the matrix needs; the large per-token variables are not kept in memory.
OF_PAIRS = ("js", "kl", "kl_over_all", "tokens")


@heavy_asset(
    DIVERGENCE,
    per_generator,
    kinds={"huggingface", "xarray"},
    deps=["generations", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
)
def logit_js(stored: xr.Dataset) -> asset_metadata.Metadata:
    """JS and KL between every pair of personas, in nats, on the responses of one generator persona.

    The tokens of each response are teacher-forced under every persona's system prompt. The next-token distributions of
    two personas are compared at each position and averaged over the tokens of the response.

    JS and KL are stored per question and pair; between the generator and each other persona also per token.
    """
    return asset_metadata.logit_js(stored)


@light_asset(
    DIVERGENCE,
    kinds={"xarray"},
    ins={"logit_js": dg.AssetIn(partition_mapping=every_persona, metadata={VARIABLES: list(OF_PAIRS)})},
)
def logit_js_matrix(study: dg.ResourceParam[Study], logit_js: dict[str, xr.Dataset]) -> dg.Output[xr.Dataset]:
    """K×K matrices of JS and KL between personas, in nats, averaged over responses, with bootstrap intervals.

    There is one matrix for each subset of generators whose responses are averaged: all of them, the two personas of the
    pair, only one of the two, or all others. Intervals come from resampling questions.
    """
    bootstrap = study.bootstrap
    matrix = metrics.divergence_matrix(logit_js, study.generators, study.design, **bootstrap.model_dump())
    if set(study.scoring) != set(study.personas):  # personas that were not scored get NaN
        matrix = matrix.reindex(persona=list(study.personas), other=list(study.personas))
    picture = {"heatmap": dg.MetadataValue.md(draw.inline_markdown(draw.js_heatmap(matrix), "JS between personas"))}
    numbers = draw.js_range(matrix) | draw.js_extremes(matrix)
    return dg.Output(matrix, metadata={**picture, **numbers, **asset_metadata.logit_js_matrix(matrix)})
