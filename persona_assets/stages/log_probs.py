"""Stage `marker_log_probs`: the marker's log-probability behind every target's own replies by the base model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from persona_assets import inference, metrics
from persona_assets.files.digest import digest_of
from persona_assets.graph.provenance import recipe_of
from persona_assets.stages.progress import ProgressLines
from persona_assets.stages.replies import base_replies
from persona_assets.stages.session import ModelSession
from persona_assets.stages.training import first_example, training_examples
from persona_assets.store.artefacts import Artefact, ArtefactStore
from persona_assets.study import Study, StudyError

# Name in the store: log-probabilities without an adapter, which all sources and training seeds share.
BASE_LOG_PROBS = "base_log_probs"
LOG_PROBS = ("marker_log_prob", "first_log_prob", "end_log_prob")


def log_probs_of_source(
    store: ArtefactStore, study: Study, session: ModelSession, adapter: Artefact
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Measure the marker's log-probability behind every target's replies, with and without a source's adapter.

    Args:
        study: has the training seed of the adapter alone.

    Returns:
        One row per reply; the columns are described in `schemas`. And cost.
    """
    replies, answers = cut_replies(store, study, session)
    base = _base(store, study, session, replies, answers)
    loaded, examples = session.load(marker_adapter=adapter.path), training_examples(adapter)
    with inference.measured(loaded.hardware.device) as cost:
        adapted = _measure(session, study, loaded, answers)
        merged = inference.label_log_prob(loaded.model, first_example(examples), loaded.device)
    shares = metrics.negative_shares(examples)
    table = replies.assign(
        seed=recipe_of(study).training.seed,
        **{name: adapted[name] for name in LOG_PROBS},
        **{f"base_{name}": base[name] for name in LOG_PROBS},
        marker_tokens=adapted.marker_tokens,
        negative_share=replies.target.map(shares).fillna(0.0).astype("float64"),
    )
    fed = sum(len(answer.prompt) + len(answer.reply) for answer in answers if answer) + int(table.marker_tokens.sum())
    kept = table[table.counted]
    return table, {
        **cost.with_tokens(fed),
        "replies": len(table),
        "counted": len(kept),
        "mean_log_prob_gain": float((kept.marker_log_prob - kept.base_marker_log_prob).mean()),
        "label_log_prob_base": adapter.measured["label_log_prob_before"],
        "label_log_prob_adapter": adapter.measured["label_log_prob_after"],
        "label_log_prob_merged": merged,
    }


def cut_replies(
    store: ArtefactStore, study: Study, session: ModelSession
) -> tuple[pd.DataFrame, list[inference.Reply | None]]:
    """Return every target's replies, described as in the stored table, and cut as tokens.

    A reply that reaches no answer has no tokens; it is listed, but does not count.
    """
    recipe, chat = recipe_of(study), session.chat_of(study)
    if recipe.base_samples:
        given = base_replies(store, study, session)
        given = given[given["sample"] < recipe.base_samples].rename(columns={"sample": "reply"})
    else:
        tables = {target: artefact.read() for target, artefact in session.replies.items()}
        given = pd.concat([table.assign(target=target, reply=0) for target, table in tables.items()])
    cut = [
        inference.cut_reply(chat, row["token_ids"], row["finish_reason"], session.stop_ids, recipe.replies.cut)
        for row in given.to_dict("records")
    ]
    reached = [each is not None for each in cut]
    if not any(reached):
        raise StudyError(
            f"study {study.name}: none of the {len(cut)} replies reaches an answer, so that no marker can follow it; "
            "expected larger decoding.max_new_tokens or marker.evaluation.max_new_tokens, or chat.thinking: suppress"
        )
    ended = [each is not None and each.ended for each in cut]
    counted = inference.replies_that_count([end for end, answer in zip(ended, reached, strict=True) if answer],
                                           recipe.replies.cut)  # fmt: skip
    if counted.none_ended:
        session.log.warning(
            f"none of the {len(cut)} replies ended by itself, so all count: the marker is measured in the middle of "
            "replies; a larger max_new_tokens would let them end"
        )
    counts = iter(counted.counts)
    table = (
        given[["target", "question", "reply"]]
        .reset_index(drop=True)
        .assign(
            reply_tokens=[0 if each is None else len(each.reply) for each in cut],
            ended=ended,
            counted=[answer and next(counts) for answer in reached],
        )
    )
    answers = [
        None
        if each is None
        else inference.Reply(
            [*chat.prompt_ids(study.prompts[row["target"]], row["question"]), *each.thought], each.reply
        )
        for row, each in zip(table.to_dict("records"), cut, strict=True)
    ]
    return table.astype({"reply": "int64", "reply_tokens": "int64"}), answers


def _base(
    store: ArtefactStore,
    study: Study,
    session: ModelSession,
    replies: pd.DataFrame,
    answers: Sequence[inference.Reply | None],
) -> pd.DataFrame:
    """Return the log-probabilities without an adapter, measured once per checkpoint, replies and marker."""
    made_from = {
        "asset": BASE_LOG_PROBS,
        "checkpoint": session.identity.digest,
        "environment": session.gpu.environment("marker_log_probs", session.identity),
        "marker": recipe_of(study).marker.text,
        "deterministic": study.deterministic,
        "replies": digest_of([each and [list(each.prompt), list(each.reply)] for each in answers]),
    }
    artefact = store.find(BASE_LOG_PROBS, made_from)
    if artefact is None:
        measured = _measure(session, study, session.load(), answers)
        artefact = store.put(BASE_LOG_PROBS, made_from, measured, {})
    table: pd.DataFrame = artefact.read()
    return table


def _measure(
    session: ModelSession, study: Study, loaded: inference.LoadedModel, answers: Sequence[inference.Reply | None]
) -> pd.DataFrame:
    """Return one row per reply; log-probabilities are missing where a reply reaches no answer."""
    given = [each for each in answers if each is not None]
    progress = ProgressLines(session.log, "measuring the marker's log-probability", "replies")
    found = inference.marker_log_probs(loaded, given, recipe_of(study).marker.text, study.deterministic, progress)
    measured = iter(found)
    missing = inference.MarkerLogProbs(math.nan, math.nan, math.nan, 0)
    rows = [missing if each is None else next(measured) for each in answers]
    return pd.DataFrame(
        {
            "marker_log_prob": [row.marker for row in rows],
            "first_log_prob": [row.first for row in rows],
            "end_log_prob": [row.end for row in rows],
            "marker_tokens": [row.tokens for row in rows],
        }
    ).astype({"marker_tokens": "int64"})
