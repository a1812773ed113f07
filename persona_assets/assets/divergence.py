"""How far apart personas' next-token distributions are."""

import dagster as dg
import xarray as xr

from persona_assets import presentation as draw
from persona_assets.artefacts import Artefact
from persona_assets.inference import Scored, Scorer, choose_scorer, measured
from persona_assets.metrics import compile_ahead, divergence_matrix, label_responses
from persona_assets.orchestration import showing
from persona_assets.orchestration.contents import expected
from persona_assets.orchestration.finite import divergences
from persona_assets.orchestration.groups import ANALYSIS_TEAM, DIVERGENCE, MEASUREMENT_TEAM
from persona_assets.orchestration.heavy import Station, for_each_persona
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import STUDY, every_persona, every_prompt, per_checkpoint, per_persona
from persona_assets.orchestration.provenance import code_version
from persona_assets.orchestration.resources import Gpu
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_persona,
    deps=["model_checkpoint", "generations", dg.AssetDep("persona_prompts", partition_mapping=every_prompt)],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=DIVERGENCE,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "xarray"},
    metadata=expected("logit_js"),
    code_version=code_version(STUDY, "logit_js"),
)
def logit_js(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """JS and KL of every pair of personas along one generator's responses, teacher-forced under every prompt."""
    personas, scorers = list(study.personas), dict[int, Scorer]()

    def score(station: Station, generator: str, generated: Artefact | None) -> tuple[xr.Dataset, dict[str, object]]:
        assert generated is not None
        loaded = station.load()
        if id(loaded) not in scorers:
            compile_ahead(len(personas), loaded.vocabulary, loaded.model.dtype, loaded.device)
            scorers[id(loaded)] = choose_scorer(loaded, study.deterministic)
        scorer = scorers[id(loaded)]
        with measured(loaded.hardware.device) as cost:
            work = [
                Scored(
                    [loaded.chat.prompt_ids(prompt, row.question) for prompt in study.prompts.values()],
                    loaded.chat.scored_ids(row.token_ids, study.scored_slice),
                )
                for row in generated.read().itertuples()
            ]
            responses = divergences(loaded, scorer, work, generator, personas)
        dataset = label_responses(responses, generator, personas, study.questions)
        tokens = int(dataset.tokens.sum())
        return dataset, {
            **cost.with_tokens(tokens * len(personas)),
            **scorer.plan,
            "response_tokens": tokens,
            "scorers": len(personas),
            "mean_js": float(dataset.js.sel(persona=generator).mean()),
        }

    for_each_persona(context, study, gpu, home, score, showing.js_of_generator)


@dg.asset(
    partitions_def=per_checkpoint,
    ins={"logit_js": dg.AssetIn(partition_mapping=every_persona)},
    group_name=DIVERGENCE,
    owners=ANALYSIS_TEAM,
    kinds={"xarray"},
    metadata=expected("logit_js_matrix"),
    code_version=code_version(STUDY, "logit_js_matrix"),
)
def logit_js_matrix(study: dg.ResourceParam[Study], logit_js: dict[str, xr.Dataset]) -> dg.Output[xr.Dataset]:
    """K×K JS and KL between personas, in nats, for every choice of generators, with question-bootstrap intervals."""
    bootstrap = study.bootstrap
    matrix = divergence_matrix(logit_js, study.generators, bootstrap.resamples, bootstrap.seed, bootstrap.level)
    picture = {"heatmap": dg.MetadataValue.md(draw.inline_markdown(draw.js_heatmap(matrix), "JS between personas"))}
    numbers = draw.js_range(matrix) | draw.js_extremes(matrix)
    return dg.Output(matrix, metadata={**picture, **numbers, **showing.js_of_pairs(matrix)})
