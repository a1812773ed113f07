"""Stage `marker_rates`: sample replies of every target with and without a source's adapter, and count the marker."""

from __future__ import annotations

from typing import Any

import pandas as pd

from persona_assets import inference, metrics
from persona_assets.graph.provenance import recipe_of
from persona_assets.stages.answers import unanswered
from persona_assets.stages.replies import base_replies, sample_targets
from persona_assets.stages.session import ModelSession
from persona_assets.stages.training import first_example, training_examples
from persona_assets.store.artefacts import Artefact, ArtefactStore
from persona_assets.study import Study


def rate_source(
    store: ArtefactStore, study: Study, session: ModelSession, adapter: Artefact
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample replies of every target with and without a source's adapter, and search them for the marker.

    Returns:
        Table with columns target, question, sample, text, tokens, finish_reason, model (`adapted` or `base`), found,
        and those of `take_answers` if a reply has a thought. A reply that reaches no answer counts as unmarked.
        And cost with counts and checks of the merged adapter.
    """
    samples = recipe_of(study).evaluation.samples
    base = base_replies(store, study, session)
    base = base[base["sample"] < samples].drop(columns="token_ids")
    generator = session.generator(adapter.path)
    after = generator.label_log_prob(first_example(training_examples(adapter)))
    with inference.measured(session.gpu.hardware.device) as cost:
        sampled = sample_targets(session, generator, study, samples).drop(columns="token_ids")
    table = pd.concat([sampled.assign(model="adapted"), base.assign(model="base")], ignore_index=True)
    if "answered" in table:
        table = table.assign(thought=table.thought.fillna(""), answered=table.answered.fillna(True).astype(bool))
    table["found"] = [metrics.contains_marker(text, recipe_of(study).marker.detect) for text in table.text]
    by_target = table[table.model == "adapted"].groupby("target", sort=False).found.agg(["sum", "size"])
    return table, {
        **cost.with_tokens(int(sampled.tokens.sum())),
        **generator.plan,
        "replies": len(sampled),
        **unanswered(table[table.model == "adapted"]),
        "found_by_target": {str(target): f"{found}/{total}" for target, found, total in by_target.itertuples()},
        "found_without_adapter": f"{int(table[table.model == 'base'].found.sum())}/{len(base)}",
        "label_log_prob_base": adapter.measured["label_log_prob_before"],
        "label_log_prob_adapter": adapter.measured["label_log_prob_after"],
        "label_log_prob_merged": after,
    }
