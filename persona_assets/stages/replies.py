"""Replies of the targets: sampled from the base model or from an adapted one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from persona_assets.graph.provenance import recipe_of
from persona_assets.stages.answers import take_answers
from persona_assets.stages.progress import ProgressLines
from persona_assets.stages.session import ModelSession
from persona_assets.store.artefacts import ArtefactStore
from persona_assets.study import Study
from persona_assets.study.settings import Decoding

if TYPE_CHECKING:
    from persona_assets.inference import Generator

# Name in the store: replies of the checkpoint without a marker, which all sources and training seeds share.
BASE_REPLIES = "base_replies"


def sample_targets(session: ModelSession, generator: Generator, study: Study, samples: int) -> pd.DataFrame:
    """Sample replies of every target to every question as the recipe's evaluation says.

    Args:
        samples: replies to a question.

    Returns:
        Columns target, question, sample, text, tokens, finish_reason, token_ids, and those of `take_answers`.
    """
    evaluation = recipe_of(study).evaluation
    decoding = Decoding(
        method="sampled",
        max_new_tokens=evaluation.max_new_tokens,
        seed=evaluation.seed,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
    )
    rows = [(t, q, n) for t in study.targets for q in study.questions for n in range(samples)]
    chat = session.chat_of(study)
    prompts = [chat.prompt_ids(study.prompts[target], question) for target, question, _ in rows]
    progress = ProgressLines(session.log, f"sampling {len(prompts)} replies", "tokens")
    replies = generator.generate(prompts, decoding, progress)
    table = pd.DataFrame(rows, columns=["target", "question", "sample"]).assign(
        text=[reply.text for reply in replies],
        tokens=[len(reply.token_ids) for reply in replies],
        finish_reason=[reply.finish_reason for reply in replies],
        token_ids=pd.Series([reply.token_ids for reply in replies]),
    )
    return take_answers(chat, table)


def base_replies(store: ArtefactStore, study: Study, session: ModelSession) -> pd.DataFrame:
    """Return replies of every target without an adapter, as `sample_targets` does; sampled once per checkpoint.

    There are as many per question as the study needs for rates or for log-probabilities, whichever is more.
    """
    made_from = base_replies_from(study, session)
    artefact = store.find(BASE_REPLIES, made_from)
    if artefact is None:
        samples = made_from["evaluation"]["samples"]
        session.log.info(f"sampling {samples} replies per question of every target without an adapter")
        artefact = store.put(BASE_REPLIES, made_from, sample_targets(session, session.generator(), study, samples), {})
    table: pd.DataFrame = artefact.read()
    return table


def base_replies_from(study: Study, session: ModelSession) -> dict[str, Any]:
    """Return what the base replies are made from."""
    recipe = recipe_of(study)
    evaluation = recipe.evaluation.model_dump(mode="json", exclude={"targets"})
    return {
        "asset": BASE_REPLIES,
        "checkpoint": session.identity.digest,
        "environment": session.gpu.environment("generations", session.identity),
        "target_prompts": {target: study.prompts[target] for target in study.targets},
        "questions": list(study.questions),
        "evaluation": {**evaluation, "samples": max(recipe.evaluation.samples, recipe.base_samples)},
        **({"chat": changed} if (changed := study.chat.identity()) else {}),
    }
