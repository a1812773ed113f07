"""Stage `self_check`: compare a loaded model with its own plain forward pass on the study's prompts."""

import math
from typing import Any

import pandas as pd

from persona_assets import inference
from persona_assets.checkpoints import CheckpointError
from persona_assets.graph.home import Home
from persona_assets.stages.session import Compute, ModelSession
from persona_assets.store.artefacts import Artefact
from persona_assets.study import Study

# Tokens of the response that is scored, if no attention window asks for more.
SHORTEST = 32


def self_check(study: Study, home: Home) -> Compute:
    def check(session: ModelSession, _: str, __: Artefact | None) -> tuple[pd.DataFrame, dict[str, Any]]:
        prompts, *others = _pairs(session.chat_of(study), study)
        longest = max(map(len, prompts)) + max_new_tokens(study)
        generator = session.generator()
        generator.start(longest)
        written = generator.generate(prompts, inference.GREEDY)
        loaded = session.load()
        _require_positions(session.checkpoint.name, loaded, longest)
        text = loaded.chat.tokenizer(" ".join(study.questions), add_special_tokens=False)["input_ids"]
        tokens = _response_tokens(loaded, longest, max_new_tokens(study))
        response = (text * (tokens // len(text) + 1))[:tokens]
        with inference.measured(loaded.hardware.device) as cost:
            findings = inference.self_check(loaded, prompts, response, study.deterministic, written)
            while others and any(math.isnan(each.error) for each in findings):
                # A model may have no numbers for one persona alone, whose results are then refused by name.
                findings = inference.self_check(loaded, others.pop(0), response, study.deterministic)
        table = pd.DataFrame(
            [{**each._asdict(), "passed": each.passed, "family": loaded.architecture.model_type} for each in findings]
        )
        return table, {**cost.with_tokens(sum(map(len, prompts)) + 2 * tokens), "response_tokens": tokens}

    return check


def max_new_tokens(study: Study) -> int:
    """Return the length limit of the study's responses; imported studies have none and are not computed."""
    return study.decoding.max_new_tokens if study.decoding else SHORTEST


def _pairs(chat: Any, study: Study) -> list[list[list[int]]]:
    """Return pairs of prompts of different length to the longest question: the shortest with the longest first."""
    name = study.scoring[0]
    question = max(study.questions, key=lambda each: len(chat.prompt_ids(study.prompts[name], each)))
    rendered = sorted((chat.prompt_ids(study.prompts[name], question) for name in study.scoring), key=len)
    shortest, longer = rendered[0], [each for each in reversed(rendered) if len(each) > len(rendered[0])]
    longer.append(chat.prompt_ids(study.prompts[study.baseline], f"{question} {question}"))
    return [[shortest, each] for each in longer]


def _response_tokens(loaded: Any, longest: int, limit: int) -> int:
    """Return a length that exceeds the attention window if the study's longest sequence does."""
    config = loaded.model.config.get_text_config().to_dict()
    window = config.get("sliding_window") or config.get("attention_chunk_size") or 0
    return min(limit, window + SHORTEST) if loaded.architecture.windows and longest > window else min(limit, SHORTEST)


def _require_positions(name: str, loaded: Any, longest: int) -> None:
    config = loaded.model.config.get_text_config().to_dict()
    most = config.get("max_position_embeddings") or config.get("n_positions")
    if isinstance(most, int) and longest > most:
        raise CheckpointError(
            f"{name}: a prompt and a response may have {longest} tokens, but the model has {most} positions; "
            "expected a smaller decoding.max_new_tokens or shorter prompts"
        )
