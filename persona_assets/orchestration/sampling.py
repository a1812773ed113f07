"""What every target says under a model, for counting markers; the un-adapted model's replies are sampled once."""

import pandas as pd

from persona_assets.artefacts import Artefact, ArtefactStore
from persona_assets.inference import LoadedModel, TransformersGenerator
from persona_assets.orchestration.heavy import Load
from persona_assets.study import Decoding, Study

BASE = "base_samples"


def sample_targets(loaded: LoadedModel, study: Study) -> pd.DataFrame:
    """Every target × question × sample of the recipe's evaluation.

    Returns:
        Columns target, question, sample, text, tokens, finish_reason.
    """
    assert study.marker is not None
    evaluation = study.marker.evaluation
    decoding = Decoding(
        method="sampled",
        max_new_tokens=evaluation.max_new_tokens,
        seed=evaluation.seed,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
    )
    rows = [(t, q, n) for t in study.targets for q in study.questions for n in range(evaluation.samples)]
    prompts = [loaded.chat.prompt_ids(study.prompts[target], question) for target, question, _ in rows]
    replies = TransformersGenerator(loaded).generate(prompts, decoding)
    return pd.DataFrame(rows, columns=["target", "question", "sample"]).assign(
        text=[reply.text for reply in replies],
        tokens=[len(reply.token_ids) for reply in replies],
        finish_reason=[reply.finish_reason for reply in replies],
    )


def base_samples(store: ArtefactStore, study: Study, load: Load, adapter: Artefact) -> pd.DataFrame:
    """The checkpoint's own replies to the same evaluation, from the store or sampled now: the base rate."""
    assert study.marker is not None
    made_from = {
        "asset": BASE,
        "checkpoint": adapter.made_from["checkpoint"],
        "environment": adapter.made_from["environment"],
        "target_prompts": {target: study.prompts[target] for target in study.targets},
        "questions": list(study.questions),
        "evaluation": study.marker.evaluation.model_dump(mode="json", exclude={"targets"}),
    }
    artefact = store.find(BASE, made_from)
    if artefact is None:
        artefact = store.put(BASE, made_from, sample_targets(load(), study), {})
    table: pd.DataFrame = artefact.read()
    return table
