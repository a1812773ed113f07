"""How far apart personas' hidden states are."""

import dagster as dg
import xarray as xr

from persona_assets import presentation as draw
from persona_assets.artefacts import Artefact
from persona_assets.inference import last_token_states, measured
from persona_assets.metrics import cosine_dataset
from persona_assets.orchestration import showing
from persona_assets.orchestration.contents import expected
from persona_assets.orchestration.finite import refuse_not_finite
from persona_assets.orchestration.groups import ANALYSIS_TEAM, GEOMETRY, MEASUREMENT_TEAM
from persona_assets.orchestration.heavy import Station, for_each_persona
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import STUDY, every_persona, per_checkpoint, per_persona
from persona_assets.orchestration.provenance import code_version
from persona_assets.orchestration.resources import Gpu
from persona_assets.study import Study


@dg.asset(
    partitions_def=per_persona,
    deps=["model_checkpoint", "persona_prompts"],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GEOMETRY,
    owners=MEASUREMENT_TEAM,
    kinds={"huggingface", "xarray"},
    metadata=expected("centroids"),
    code_version=code_version(STUDY, "centroids"),
)
def centroids(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """A persona's hidden state at the last prompt token per layer: each question's, and the mean over questions."""

    def collect(station: Station, persona: str, _: Artefact | None) -> tuple[xr.Dataset, dict[str, object]]:
        loaded = station.load()
        blocks = study.blocks(loaded.model.config.get_text_config().num_hidden_layers)
        prompts = [loaded.chat.prompt_ids(study.prompts[persona], question) for question in study.questions]
        with measured(loaded.hardware.device) as cost:
            states = last_token_states(loaded, prompts, blocks).numpy()
        refuse_not_finite(loaded, prompts, study.questions, states)
        dataset = xr.Dataset(
            {"state": (("question", "layer", "hidden"), states), "centroid": (("layer", "hidden"), states.mean(0))},
            coords={"question": list(study.questions), "layer": blocks},
            attrs={"persona": persona},
        )
        return dataset, {**cost.with_tokens(sum(map(len, prompts))), "layers": blocks, "hidden": states.shape[-1]}

    for_each_persona(context, study, gpu, home, collect, showing.centroid)


@dg.asset(
    partitions_def=per_checkpoint,
    ins={"centroids": dg.AssetIn(partition_mapping=every_persona)},
    group_name=GEOMETRY,
    owners=ANALYSIS_TEAM,
    kinds={"xarray"},
    metadata=expected("centroid_cosine"),
    code_version=code_version(STUDY, "centroid_cosine"),
)
def centroid_cosine(study: dg.ResourceParam[Study], centroids: dict[str, xr.Dataset]) -> dg.Output[xr.Dataset]:
    """K×K cosine of centred centroids, per layer and centring population."""
    cosine = cosine_dataset(centroids, {name: study.population(name) for name in study.centring_populations})
    heatmaps = {
        f"heatmap centred on {name}": draw.inline_markdown(
            draw.cosine_heatmaps(cosine, list(study.personas), name), name
        )
        for name in study.centring_populations
    }
    inline = {name: dg.MetadataValue.md(heatmap) for name, heatmap in heatmaps.items()}
    return dg.Output(cosine, metadata={**inline, **showing.cosines(cosine), **draw.cosine_extremes(cosine)})
