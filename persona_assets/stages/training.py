"""Stage `marker_adapter`: sample a source's training set and train its adapter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from persona_assets import inference
from persona_assets.graph.parquet import from_parquet, to_parquet
from persona_assets.graph.provenance import recipe_of, study_of_unit
from persona_assets.stages.answers import share_of
from persona_assets.stages.progress import ProgressLines
from persona_assets.stages.session import ModelSession
from persona_assets.store.artefacts import Artefact, Files
from persona_assets.study import Study, StudyError

if TYPE_CHECKING:
    from persona_assets.inference import Conversation, Example, Step
    from persona_assets.stages.following import Following

    TrainingSet = tuple[list[Conversation], list[Example], int]


def training_sets(session: ModelSession, study: Study, unit: str) -> dict[str, TrainingSet]:
    """Sample training conversations of a source's training seed and tokenise them into examples.

    Returns:
        unit → conversations, examples, and how many replies were left out, because they reach no answer. If the
        engine batches personas (vLLM), all pending sources are sampled together, because training shuts the engine
        down and it would have to restart for each source.
    """
    chat = session.chat_of(study)
    _, source = study_of_unit(study, "marker_adapter", unit)
    # Before anything is generated: whether this tokenizer can spell the marker.
    inference.marker_ids(chat, chat.prompt_ids(study.prompts[source], study.questions[0]), recipe_of(study).marker.text)
    generator, sets = session.generator(), {}
    for each in session.batch_with(unit, generator):
        alone, source = study_of_unit(study, "marker_adapter", each)
        recipe = recipe_of(alone)
        plan = inference.plan_conversations(
            recipe, source, list(study.personas), study.baseline, study.training_questions
        )
        progress = ProgressLines(session.log, f"{each}: sampling training replies", "tokens")
        examples = inference.build_training_set(
            chat, session.stop_ids, generator, recipe, plan, study.training_prompts, progress
        )
        pairs = [(one, example) for one, example in zip(plan, examples, strict=True) if example is not None]
        if not any(one.marked for one, _ in pairs):
            raise StudyError(
                f"study {study.name}: none of the training replies for {source} reaches an answer, so that no marker "
                "can be appended; expected a larger marker.replies.max_new_tokens, or chat.thinking: suppress"
            )
        sets[each] = ([one for one, _ in pairs], [example for _, example in pairs], len(plan) - len(pairs))
    return sets


def train_source(
    session: ModelSession,
    study: Study,
    training_set: TrainingSet,
    on_step: Callable[[Step, int], None],
    follow: Following | None = None,
) -> tuple[Files, dict[str, Any]]:
    """Train a source's adapter.

    Args:
        study: has one training seed.
        follow: measures the model every few steps, as the recipe says.

    Returns:
        Files (adapter as safetensors, its config, training set, steps and what was followed as Parquet); and cost with
        training metrics.
    """
    recipe, (plan, examples, left_out), loaded = recipe_of(study), training_set, session.load(alone=True)
    at_step = None if follow is None else partial(follow, loaded)
    with tempfile.TemporaryDirectory() as folder, inference.measured(loaded.hardware.device) as cost:
        trained = inference.train_adapter(loaded, examples, recipe, Path(folder), on_step, session.log.info, at_step)
        adapter = {file.name: file.read_bytes() for file in Path(folder).glob("adapter_*")}
    table = pd.DataFrame([vars(each) for each in plan]).assign(
        text=[loaded.chat.tokenizer.decode(example.token_ids) for example in examples],
        token_ids=pd.Series([list(example.token_ids) for example in examples]),
        labels=pd.Series([list(example.labels) for example in examples]),
    )
    steps = pd.DataFrame([vars(step) for step in trained.steps])
    quarter = max(1, len(steps) // 4)
    files = {**adapter, "examples.parquet": to_parquet(table), "steps.parquet": to_parquet(steps)}
    if follow is not None:
        files["followed.parquet"] = to_parquet(follow.table)
    return files, {
        **cost.with_tokens(int(steps.tokens.sum())),
        "steps": len(steps),
        "examples": len(table),
        **({"without_answer": share_of(left_out, left_out + len(table))} if left_out else {}),
        "first_loss": float(steps.loss.head(quarter).mean()),
        "last_loss": float(steps.loss.tail(quarter).mean()),
        "label_log_prob_before": trained.before,
        "label_log_prob_after": trained.after,
        "computation": trained.computation,
        "trained_modules": trained.layers.modules.names,
        **({"modules_not_found": unmatched} if (unmatched := trained.layers.modules.unmatched) else {}),
        "trained_parameters": trained.layers.parameters,
        "trained_share": trained.layers.share,
        "adapted_share_of_blocks": trained.layers.adapted,
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
    }


def training_examples(adapter: Artefact) -> pd.DataFrame:
    """Return the training set that is stored with an adapter, one row per example."""
    return from_parquet(adapter.read()["examples.parquet"])


def first_example(examples: pd.DataFrame) -> Example:
    """Return the training example on which the adapter is compared before and after merging."""
    row = examples.iloc[0]
    return inference.Example(tuple(map(int, row.token_ids)), tuple(map(int, row.labels)))
