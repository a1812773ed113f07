"""Assets `logit_js` and `logit_js_matrix`: divergence between the personas' next-token distributions."""

import dagster as dg
import xarray as xr

from persona_assets import metrics
from persona_assets import presentation as draw
from persona_assets.graph.groups import ANALYSIS_TEAM, DIVERGENCE, MEASUREMENT_TEAM
from persona_assets.graph.home import Home
from persona_assets.graph.io_managers import VARIABLES
from persona_assets.graph.partitions import STUDY, every_persona, every_prompt, per_checkpoint, per_generator
from persona_assets.graph.provenance import code_version
from persona_assets.graph.resources import Gpu
from persona_assets.graph.schemas import expected_schema
from persona_assets.page import asset_metadata
from persona_assets.runs.heavy import for_each_persona
from persona_assets.study import Study

# Variables that the matrix needs; the large per-token variables are not kept in memory.
OF_PAIRS = ("js", "kl", "kl_over_all", "tokens")


@dg.asset(
    partitions_def=per_generator,
    deps=["model_checkpoint", "generations", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=DIVERGENCE,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "xarray"},
    metadata=expected_schema("logit_js"),
    code_version=code_version(STUDY, "logit_js"),
)
def logit_js(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """JS and KL between every pair of personas, in nats, on the responses of one generator persona.

    The tokens of each response are teacher-forced under every persona's system prompt. The next-token distributions of
    two personas are compared at each position and averaged over the tokens of the response.

    JS and KL are stored per question and pair; between the generator and each other persona also per token.
    """
    for_each_persona(context, study, gpu, home, asset_metadata.logit_js)


@dg.asset(
    partitions_def=per_checkpoint,
    ins={"logit_js": dg.AssetIn(partition_mapping=every_persona, metadata={VARIABLES: list(OF_PAIRS)})},
    group_name=DIVERGENCE,
    owners=ANALYSIS_TEAM,
    kinds={"xarray"},
    metadata=expected_schema("logit_js_matrix"),
    code_version=code_version(STUDY, "logit_js_matrix"),
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
