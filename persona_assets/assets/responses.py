"""What each persona says."""

import dagster as dg
import pandas as pd

from persona_assets.artefacts import Artefact
from persona_assets.inference import TransformersGenerator, measured
from persona_assets.orchestration.heavy import Load, for_each_persona
from persona_assets.orchestration.home import Home
from persona_assets.orchestration.partitions import STUDY, per_persona
from persona_assets.orchestration.provenance import code_version
from persona_assets.orchestration.resources import Gpu
from persona_assets.study import Study

RESPONSES = "responses"


@dg.asset(
    partitions_def=per_persona,
    deps=["model_checkpoint", "persona_prompts"],
    pool="gpu",
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=RESPONSES,
    kinds={"huggingface", "parquet"},
    code_version=code_version(STUDY, "generations"),
)
def generations(
    context: dg.AssetExecutionContext, study: dg.ResourceParam[Study], gpu: Gpu, home: dg.ResourceParam[Home]
) -> None:
    """What a persona answers to every question: token ids, text and finish reason, one row a question."""

    def generate(load: Load, persona: str, _: Artefact | None) -> tuple[pd.DataFrame, dict[str, object]]:
        loaded, prompt, decoding = load(), study.prompts[persona], study.decoding
        assert decoding is not None  # only imported studies lack it, and nothing is generated there
        engine = TransformersGenerator(loaded)
        prompts = [loaded.chat.prompt_ids(prompt, question) for question in study.questions]
        with measured(loaded.hardware.device) as cost:
            responses = engine.generate(prompts, decoding)
        table = pd.DataFrame([vars(response) for response in responses])
        table.insert(0, "persona", persona)
        table.insert(1, "question", study.questions)
        table = table.assign(engine=engine.engine, seed=decoding.seed)
        return table, {
            **cost.with_tokens(int(table.token_ids.map(len).sum())),
            "engine": engine.engine,
            "cut_at_max_new_tokens": int((table.finish_reason == "length").sum()),
            "responses": table[["question", "text"]].to_dict("records"),
        }

    for_each_persona(context, study, gpu, home, generate)
