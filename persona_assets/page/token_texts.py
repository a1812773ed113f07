"""Joins stored JS per token with the tokens' texts."""

from collections.abc import Mapping, Sequence

import dagster as dg
import pandas as pd

from persona_assets.checkpoints import CheckpointError
from persona_assets.graph.history import latest_artefacts
from persona_assets.graph.home import Home
from persona_assets.graph.partitions import partition_key
from persona_assets.store.artefacts import ArtefactError
from persona_assets.study import Study


def js_by_token(
    instance: dg.DagsterInstance,
    home: Home,
    study: Study,
    checkpoint: str,
    generations: Mapping[str, pd.DataFrame],
    pairs: Sequence[tuple[str, str]],
) -> pd.DataFrame | None:
    """Return every token of both personas' responses with the JS between the two personas, for each pair.

    Token positions are those of `logit_js`, texts come from the checkpoint's tokenizer. No weights are read.

    Args:
        generations: persona → one row per question, with `token_ids`.

    Returns:
        One row per token, in order: `persona` (the generator), `other`, `question`, `piece`, `js` (nats). None if the
        run was imported, JS per token was pruned, the tokenizer no longer exists, or no persona of the pairs generated
        responses under the study's design.
    """
    if study.imported:
        return None
    from persona_assets.inference import read_chat, token_pieces  # imports PyTorch

    both_ways = [dyad for first, second in dict.fromkeys(pairs) for dyad in ((first, second), (second, first))]
    dyads = [(persona, other) for persona, other in both_ways if persona in generations]
    if not dyads:
        return None
    try:
        chat = read_chat(home.registry.get(checkpoint)).with_settings(study.chat)
        keys = {persona: partition_key(checkpoint, persona) for persona, _ in dyads}
        artefacts = latest_artefacts(instance, home.store, "logit_js", keys.values())
        scored = {persona: artefacts[key].read() for persona, key in keys.items()}
    except (ArtefactError, CheckpointError):
        return None
    rows = []
    for persona, other in dyads:
        responses = generations[persona]
        for question, response in zip(responses["question"], responses["token_ids"], strict=True):
            at = scored[persona].sel(question=question)
            if (answer := chat.scored_answer(list(response), study.scored_slice)) is None:
                continue
            ids, first = answer
            js = at.token_js.sel(persona=other).to_numpy()[: int(at.tokens)]
            for piece, value in zip(token_pieces(chat.tokenizer, ids)[first:], js, strict=True):
                rows.append((persona, other, question, piece, float(value)))
    return pd.DataFrame(rows, columns=["persona", "other", "question", "piece", "js"])
