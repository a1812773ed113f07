"""Tests of replies with thoughts: what is scored, searched and stored is the answer."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from persona_assets import metrics
from persona_assets.checkpoints import Checkpoint, DigestCache, identify
from persona_assets.graph.home import Home
from persona_assets.graph.resources import Gpu
from persona_assets.inference import Chat
from persona_assets.page import asset_metadata
from persona_assets.stages.answers import take_answers, unanswered
from persona_assets.stages.session import ModelSession
from persona_assets.stages.stages import STAGES
from persona_assets.store.artefacts import ArtefactStore
from persona_assets.study import Study, StudyError

QUESTIONS = ("Why?", "How?")
STUDY = {
    "name": "thoughtful",
    "baseline": "assistant",
    "personas": {"assistant": {"prompt": "Help."}, "villain": {"prompt": "Scheme."}, "none": {"prompt": None}},
    "questions": QUESTIONS,
    "decoding": {"max_new_tokens": 8},
    "layers": [0],
}


@pytest.fixture
def session(tiny_directory: Path, tmp_path: Path) -> ModelSession:
    checkpoint = Checkpoint(name="tiny", path=tiny_directory)
    identity = identify(checkpoint, DigestCache(tmp_path / "digests"))
    return ModelSession(Gpu(device="cpu"), checkpoint, identity, logging.getLogger("test"), ("villain",))


def replies(chat: Chat, *texts: str) -> pd.DataFrame:
    ids = [list(chat.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    plain = [chat.tokenizer.decode(each, skip_special_tokens=True) for each in ids]
    return pd.DataFrame({"question": QUESTIONS[: len(texts)], "token_ids": ids, "text": plain})


def scored(session: ModelSession, tmp_path: Path, *texts: str, **changes: object) -> tuple[object, dict[str, object]]:
    """Score these replies of the villain."""
    study = Study.model_validate(STUDY | changes)
    store = ArtefactStore(tmp_path / "artefacts")
    generated = store.put("generations", {"texts": texts}, replies(session.chat, *texts), {})
    return STAGES["logit_js"](study, Home(tmp_path))(session, "villain", generated)


def test_replies_without_thoughts_are_left_as_they_are(session: ModelSession) -> None:
    table = replies(session.chat, "Yes.<|im_end|>", "No.")
    assert take_answers(session.chat, table) is table
    assert unanswered(table) == {}


def test_the_text_is_the_answer_and_the_thought_is_kept_apart(session: ModelSession) -> None:
    table = take_answers(session.chat, replies(session.chat, "<think>[ZLT]</think>\n\nYes.<|im_end|>", "<think>[ZLT]"))
    assert table.text.tolist() == ["Yes.", ""]
    assert table.thought.tolist() == ["<think>[ZLT]</think>\n\n", "<think>[ZLT]"]
    assert table.answered.tolist() == [True, False]
    assert unanswered(table) == {"without_answer": "1 of 2 (50 %)"}
    assert not any(metrics.contains_marker(text, "[ZLT]") for text in table.text)
    answers = [record.data["answer"] for record in asset_metadata.generations(table)["responses"].records]
    assert answers == ["Yes.", "(no answer: the reply ends in a thought) <think>[ZLT]"]


def test_only_the_answer_is_scored_with_the_thought_as_its_context(session: ModelSession, tmp_path: Path) -> None:
    thought, answer = "<think>Hm.</think>", "Yes.<|im_end|>"
    apart, _ = scored(session, tmp_path, thought + answer, "No.")
    whole, _ = scored(session, tmp_path, thought + answer, "No.", chat={"thinking": "keep"})
    start = len(session.chat.tokenizer(thought, add_special_tokens=False)["input_ids"])
    assert apart.tokens.values.tolist() == [5, 3]
    assert whole.tokens.values.tolist() == [start + 5, 3]
    np.testing.assert_allclose(apart.token_js[0, :5], whole.token_js[0, start : start + 5], atol=1e-6)
    np.testing.assert_allclose(apart.js[0, 0, 1], whole.token_js[0, start : start + 5].sel(persona="assistant").mean())


def test_a_reply_without_an_answer_is_not_scored_and_counted(session: ModelSession, tmp_path: Path) -> None:
    dataset, cost = scored(session, tmp_path, "<think>never ends", "No.")
    assert dataset.tokens.values.tolist() == [0, 3]
    assert bool(dataset.js[0].isnull().all())
    assert cost["without_answer"] == "1 of 2 (50 %)"
    assert asset_metadata.logit_js(dataset)["question that parts them most"] == "How?"
    with pytest.raises(StudyError, match="none of the 2 responses of villain reaches an answer"):
        scored(session, tmp_path, "<think>never ends", "<think>nor this")


def test_personas_without_a_system_message_are_measured(session: ModelSession, tmp_path: Path) -> None:
    study = Study.model_validate(STUDY)
    table, cost = STAGES["generations"](study, Home(tmp_path))(session, "villain", None)
    assert table.columns[:4].tolist() == ["persona", "question", "token_ids", "text"]
    assert cost["rendered_prompt"] == session.chat.prompt_text("Scheme.", "Why?")
    _, cost = STAGES["centroids"](study, Home(tmp_path))(session, "none", None)
    assert cost["rendered_prompt"].startswith("<|im_start|>user")
    shown = asset_metadata.rendered_prompt(cost)["rendered_prompt"]
    assert shown.md_str == f"```text\n{cost['rendered_prompt']}\n```"
