"""Leakage measurements of one source: train its adapter, sample replies of every target, count the marker."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from persona_assets import inference, metrics
from persona_assets.graph.parquet import from_parquet, to_parquet
from persona_assets.graph.provenance import recipe_of
from persona_assets.stages.answers import share_of, take_answers, unanswered
from persona_assets.stages.session import ModelSession
from persona_assets.store.artefacts import Artefact, ArtefactStore, Files
from persona_assets.study import Study, StudyError
from persona_assets.study.settings import Decoding

if TYPE_CHECKING:
    from persona_assets.inference import Conversation, Example, Generator, Step

    TrainingSet = tuple[list[Conversation], list[Example], int]

BASE = "base_samples"


def training_sets(session: ModelSession, study: Study, source: str) -> dict[str, TrainingSet]:
    """Sample training conversations of a source and tokenise them into examples.

    Returns:
        source → conversations, examples, and how many replies were left out, because they reach no answer. If the
        engine batches personas (vLLM), all pending sources are sampled together, because training shuts the engine
        down and it would have to restart for each source.
    """
    recipe, chat = recipe_of(study), session.chat_of(study)
    # Before anything is generated: whether this tokenizer can spell the marker.
    inference.marker_ids(chat, chat.prompt_ids(study.prompts[source], study.questions[0]), recipe.marker.text)
    generator, sets = session.generator(), {}
    for each in session.batch_with(source, generator):
        plan = inference.plan_conversations(
            recipe, each, list(study.personas), study.baseline, study.training_questions
        )
        examples = inference.build_training_set(chat, session.stop_ids, generator, recipe, plan, study.prompts)
        pairs = [(one, example) for one, example in zip(plan, examples, strict=True) if example is not None]
        if not any(one.marked for one, _ in pairs):
            raise StudyError(
                f"study {study.name}: none of the training replies for {each} reaches an answer, so that no marker "
                "can be appended; expected a larger marker.replies.max_new_tokens, or chat.thinking: suppress"
            )
        sets[each] = ([one for one, _ in pairs], [example for _, example in pairs], len(plan) - len(pairs))
    return sets


def train_source(
    session: ModelSession, study: Study, training_set: TrainingSet, on_step: Callable[[Step, int], None]
) -> tuple[Files, dict[str, Any]]:
    """Train a source's adapter.

    Returns:
        Files (adapter as safetensors, its config, training set and steps as Parquet); and cost with training metrics.
    """
    recipe, (plan, examples, left_out), loaded = recipe_of(study), training_set, session.load(alone=True)
    with tempfile.TemporaryDirectory() as folder, inference.measured(loaded.hardware.device) as cost:
        trained = inference.train_adapter(loaded, examples, recipe, Path(folder), on_step, session.log.info)
        adapter = {file.name: file.read_bytes() for file in Path(folder).glob("adapter_*")}
    table = pd.DataFrame([vars(each) for each in plan]).assign(
        text=[loaded.chat.tokenizer.decode(example.token_ids) for example in examples],
        token_ids=pd.Series([list(example.token_ids) for example in examples]),
        labels=pd.Series([list(example.labels) for example in examples]),
    )
    steps = pd.DataFrame([vars(step) for step in trained.steps])
    quarter = max(1, len(steps) // 4)
    return {**adapter, "examples.parquet": to_parquet(table), "steps.parquet": to_parquet(steps)}, {
        **cost.with_tokens(int(steps.tokens.sum())),
        "steps": len(steps),
        "examples": len(table),
        **({"without_answer": share_of(left_out, left_out + len(table))} if left_out else {}),
        "first_loss": float(steps.loss.head(quarter).mean()),
        "last_loss": float(steps.loss.tail(quarter).mean()),
        "label_log_prob_before": trained.before,
        "label_log_prob_after": trained.after,
        "trained_modules": trained.layers.modules.names,
        **({"modules_not_found": unmatched} if (unmatched := trained.layers.modules.unmatched) else {}),
        "trained_parameters": trained.layers.parameters,
        "trained_share": trained.layers.share,
        "adapted_share_of_blocks": trained.layers.adapted,
        "recipe": recipe.name,
        "recipe_digest": recipe.digest,
    }


def rate_source(
    store: ArtefactStore, study: Study, session: ModelSession, adapter: Artefact
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample replies of every target with and without a source's adapter, and search them for the marker.

    Returns:
        Table with columns target, question, sample, text, tokens, finish_reason, model (`adapted` or `base`), found,
        and those of `take_answers` if a reply has a thought. A reply that reaches no answer counts as unmarked.
        And cost with counts and checks of the merged adapter.
    """
    base = base_samples(store, study, session, adapter)
    generator = session.generator(adapter.path)
    after = generator.label_log_prob(_first_example(adapter))
    with inference.measured(session.gpu.hardware.device) as cost:
        samples = sample_targets(session, generator, study)
    table = pd.concat([samples.assign(model="adapted"), base.assign(model="base")], ignore_index=True)
    if "answered" in table:
        table = table.assign(thought=table.thought.fillna(""), answered=table.answered.fillna(True).astype(bool))
    table["found"] = [metrics.contains_marker(text, recipe_of(study).marker.detect) for text in table.text]
    by_target = table[table.model == "adapted"].groupby("target", sort=False).found.agg(["sum", "size"])
    return table, {
        **cost.with_tokens(int(samples.tokens.sum())),
        **generator.plan,
        "replies": len(samples),
        **unanswered(table[table.model == "adapted"]),
        "found_by_target": {str(target): f"{found}/{total}" for target, found, total in by_target.itertuples()},
        "found_without_adapter": f"{int(table[table.model == 'base'].found.sum())}/{len(base)}",
        "label_log_prob_base": adapter.measured["label_log_prob_before"],
        "label_log_prob_adapter": adapter.measured["label_log_prob_after"],
        "label_log_prob_merged": after,
    }


def _first_example(adapter: Artefact) -> Example:
    row = from_parquet(adapter.read()["examples.parquet"]).iloc[0]
    return inference.Example(tuple(map(int, row.token_ids)), tuple(map(int, row.labels)))


def counted_leakage(study: Study, by_source: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Build the leakage table from sampled replies.

    Args:
        by_source: source → table of `rate_source`.
    """
    recipe = recipe_of(study)

    def counts(table: pd.DataFrame, model: str) -> pd.DataFrame:
        return metrics.count_markers(table[table.model == model], recipe.marker.detect)

    adapted = {source: counts(table, "adapted") for source, table in by_source.items()}
    base = counts(next(iter(by_source.values())), "base")
    return metrics.build_leakage_table(
        adapted, base, study.categories, study.related, f"{recipe.name} {recipe.digest[:12]}"
    )


def sample_targets(session: ModelSession, generator: Generator, study: Study) -> pd.DataFrame:
    """Sample replies for every target, question and sample index of the recipe's evaluation.

    Returns:
        Columns target, question, sample, text, tokens, finish_reason, and those of `take_answers`.
    """
    evaluation = recipe_of(study).evaluation
    decoding = Decoding(
        method="sampled",
        max_new_tokens=evaluation.max_new_tokens,
        seed=evaluation.seed,
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
    )
    rows = [(t, q, n) for t in study.targets for q in study.questions for n in range(evaluation.samples)]
    chat = session.chat_of(study)
    prompts = [chat.prompt_ids(study.prompts[target], question) for target, question, _ in rows]
    replies = generator.generate(prompts, decoding)
    table = pd.DataFrame(rows, columns=["target", "question", "sample"]).assign(
        text=[reply.text for reply in replies],
        tokens=[len(reply.token_ids) for reply in replies],
        finish_reason=[reply.finish_reason for reply in replies],
        token_ids=pd.Series([reply.token_ids for reply in replies]),
    )
    return take_answers(chat, table).drop(columns="token_ids")


def base_samples(store: ArtefactStore, study: Study, session: ModelSession, adapter: Artefact) -> pd.DataFrame:
    """Return replies of every target without an adapter, for the base rate; read from the store if sampled before."""
    made_from = {
        "asset": BASE,
        "checkpoint": adapter.made_from["checkpoint"],
        "environment": adapter.made_from["environment"],
        "target_prompts": {target: study.prompts[target] for target in study.targets},
        "questions": list(study.questions),
        "evaluation": recipe_of(study).evaluation.model_dump(mode="json", exclude={"targets"}),
        **({"chat": changed} if (changed := study.chat.identity()) else {}),
    }
    artefact = store.find(BASE, made_from)
    if artefact is None:
        generator = session.generator()
        artefact = store.put(BASE, made_from, sample_targets(session, generator, study), {})
    table: pd.DataFrame = artefact.read()
    return table
