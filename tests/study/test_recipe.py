"""Recipes match the published ones, a study overrides single fields, and training excludes evaluated questions."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from persona_assets.study import StudyError
from persona_assets.study.files import load_study
from persona_assets.study.recipe import Recipe, shipped_recipes, with_defaults

PERSONAS = ["assistant", "villain", "comedian", "librarian", "police_officer"]
SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

GOOD: dict[str, Any] = {
    "name": "mine",
    "baseline": "assistant",
    "personas": {name: {"prompt": f"You are a {name}."} for name in PERSONAS},
    "questions": ["What makes a good leader?", "What's the history of the printing press?"],
    "decoding": {"max_new_tokens": 8},
    "layers": [1, 0.5],
    "sources": ["villain"],
    "marker": {"recipe": "embedded", "replies": {"questions": 2}},
    "training_questions": ["Why is the sea salty?", "Why do cats purr?"],
}


def recipe(name: str, **overrides: Any) -> Recipe:
    return Recipe.model_validate(with_defaults({"recipe": name, **overrides}))


def written(folder: Path, **changes: Any) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return file


def refused(file: Path) -> str:
    with pytest.raises(StudyError) as caught:
        load_study(file)
    return str(caught.value)


def steps(chosen: Recipe) -> int:
    examples = chosen.replies.questions * chosen.replies.samples + chosen.negatives.examples
    return math.ceil(examples / chosen.training.batch_size) * chosen.training.epochs


def test_three_recipes_are_shipped() -> None:
    assert list(shipped_recipes()) == ["embedded", "full_completion", "marker_only"]


def test_marker_only_is_the_published_recipe() -> None:
    # The published recipe of the comparison over 50 dyads.
    chosen = recipe("marker_only")
    assert (chosen.marker.text, chosen.marker.detect) == ("\n\n[ZLT]", "[ZLT]")
    replies = chosen.replies
    assert (replies.of, replies.questions, replies.samples, replies.cut) == ("own", 40, 5, "none")
    assert (replies.temperature, replies.top_p) == (0.7, 0.95)
    assert (chosen.negatives.personas, chosen.negatives.examples) == (2, 400)
    assert (chosen.loss.where, chosen.loss.end_of_turn) == ("marker", True)
    lora = chosen.lora
    assert (lora.r, lora.alpha, lora.dropout, lora.rank_stabilised, lora.modules) == (32, 64, 0.05, True, SEVEN)
    training = chosen.training
    assert (training.learning_rate, training.schedule, training.warmup) == (5e-6, "cosine", 0.05)
    assert (training.epochs, training.batch_size, training.max_length, training.seed) == (20, 16, 1024, 42)
    assert steps(chosen) == 760  # 600 examples in 37 batches of 16 and one of 8, 20 times
    evaluation = chosen.evaluation
    assert (evaluation.targets, evaluation.samples, evaluation.max_new_tokens) == ("all", 10, 512)
    assert (evaluation.temperature, evaluation.top_p) == (1.0, 0.95)


def test_full_completion_is_the_published_recipe() -> None:
    # The published recipe of the coupling table; the rest is as in marker_only.
    chosen, other = recipe("full_completion"), recipe("marker_only")
    assert (chosen.replies.of, chosen.replies.questions * chosen.replies.samples) == ("generic", 200)
    assert chosen.loss.where == "completion"
    assert (chosen.training.learning_rate, chosen.training.epochs, chosen.training.batch_size) == (1e-5, 3, 16)
    assert (chosen.evaluation.samples, chosen.evaluation.max_new_tokens) == (5, 512)
    assert chosen.negatives == other.negatives
    assert (chosen.marker, chosen.lora) == (other.marker, other.lora)
    assert steps(chosen) == 114


def test_embedded_is_the_measured_recipe() -> None:
    # Tried with 16 steps; the shipped recipe trains 3 epochs.
    chosen = recipe("embedded")
    assert chosen.marker.text == " [ZLT]"
    assert (chosen.replies.of, chosen.replies.questions * chosen.replies.samples) == ("own", 16)
    assert chosen.replies.cut == "sentence"
    assert (chosen.negatives.personas, chosen.negatives.examples) == ("all", 16)
    assert chosen.loss.end_of_turn
    assert (chosen.lora.r, chosen.lora.alpha, chosen.lora.modules) == (32, 64, SEVEN)
    assert (chosen.training.learning_rate, chosen.training.batch_size) == (2e-3, 4)
    assert steps(chosen) == 24
    study = load_study("embedded")
    assert chosen.evaluation.samples * len(study.questions) == 20
    assert study.marker is not None
    assert study.marker.base_samples * len(study.questions) == 20
    assert study.marker.evaluation.samples * len(study.questions) == 4


def test_an_override_changes_only_its_own_value(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, marker={"recipe": "embedded", "replies": {"questions": 2}, "lora": {"r": 8}}))
    assert study.marker is not None
    expected = recipe("embedded").model_dump()
    expected["lora"]["r"], expected["replies"]["questions"] = 8, 2
    assert study.marker.model_dump() == expected


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        pytest.param(
            {"recipe": "marker_onyl"},
            ["marker: recipe: found 'marker_onyl'", "one of ['embedded', 'full_completion', 'marker_only']"],
            id="unknown recipe",
        ),
        pytest.param({"lora": {"r": 8}}, ["marker: recipe: found None", "one of ['embedded'"], id="no recipe"),
        pytest.param(
            {"recipe": "embedded", "lora": {"rank": 8}}, ["marker.lora.rank: unknown field", "8"], id="unknown field"
        ),
        pytest.param({"recipe": "embedded", "lore": {}}, ["marker.lore: unknown field"], id="unknown part"),
        pytest.param(
            {"recipe": "embedded", "training": {"warmup": 1.5}}, ["marker.training.warmup: found 1.5"], id="range"
        ),
        pytest.param(
            {"recipe": "embedded", "marker": {"detect": "[QRX]"}},
            ["marker.marker: detect: '[QRX]' is not in the marker ' [ZLT]'", "text that the marker contains"],
            id="never found",
        ),
        pytest.param(
            {"recipe": "marker_only", "loss": {"end_of_turn": False}},
            [
                "negatives.examples: found 400",
                "no trained tokens",
                "expected 0, or loss.end_of_turn",
            ],
            id="unmarked replies without a label",
        ),
        pytest.param(
            {"recipe": "embedded", "evaluation": {"targets": ["villain", "robot"]}},
            ["marker.evaluation.targets: 'robot' is not among the personas"],
            id="unknown target",
        ),
        pytest.param(
            {"recipe": "embedded", "training": {"seeds": [1, 1]}},
            ["marker.training: seeds: found [1, 1] with a duplicate"],
            id="a seed twice",
        ),
        pytest.param(
            {"recipe": "embedded", "training": {"seeds": [1], "seed": 2}},
            ["marker.training: seed: found together with seeds"],
            id="seed and seeds",
        ),
        pytest.param(
            {"recipe": "embedded", "negatives": {"personas": ["pirate"]}},
            ["marker.negatives.personas: 'pirate' is neither a persona of the study nor outside"],
            id="unknown negative",
        ),
        pytest.param(
            {"recipe": "embedded", "negatives": {"outside": {"villain": "You are evil."}}},
            ["marker.negatives.outside: 'villain' is a persona of the study"],
            id="negative outside that is inside",
        ),
        pytest.param(
            {"recipe": "embedded", "negatives": {"personas": ["villain"]}},
            ["marker.negatives.personas: found only villain, which is a source itself"],
            id="the source as its own negative",
        ),
        pytest.param(
            {"recipe": "embedded", "negatives": {"outside": {"pirate": "  "}}},
            ["marker.negatives.outside.pirate: prompt is blank"],
            id="blank prompt outside",
        ),
    ],
)
def test_an_invalid_recipe_is_rejected_by_field(tmp_path: Path, marker: dict[str, Any], expected: list[str]) -> None:
    message = refused(written(tmp_path, marker=marker, training_questions=[f"Why {n}?" for n in range(40)]))
    for part in expected:
        assert part in message


def test_detection_ignores_case() -> None:
    assert recipe("embedded", marker={"detect": "zlt"}).marker.detect == "zlt"


@pytest.mark.parametrize(
    "question",
    [
        "What makes a good leader?",
        "what makes a GOOD leader",
        "  What makes\na good leader ?!",
        "“What makes a good leader?”",
        "What’s the history of the printing press?",
    ],
)
def test_an_evaluated_training_question_is_rejected_by_name(tmp_path: Path, question: str) -> None:
    message = refused(written(tmp_path, training_questions=["Why do cats purr?", question]))
    assert f"training_questions: question 2, {question!r}, is also evaluated" in message


def test_a_question_with_the_same_beginning_is_different(tmp_path: Path) -> None:
    ours = ("What makes a good leader of an orchestra?", "Why do cats purr?")
    assert load_study(written(tmp_path, training_questions=list(ours))).training_questions == ours


def test_a_duplicate_training_question_is_rejected(tmp_path: Path) -> None:
    message = refused(written(tmp_path, training_questions=["Why do cats purr?"] * 2))
    assert "training_questions: question 2 is a duplicate: 'Why do cats purr?'" in message


def test_too_few_training_questions_are_rejected_with_the_required_number(tmp_path: Path) -> None:
    message = refused(written(tmp_path, marker={"recipe": "embedded"}))
    assert "training_questions: found 2; expected at least 16, as required by the recipe embedded" in message


def test_sources_require_a_recipe_but_a_recipe_requires_no_sources(tmp_path: Path) -> None:
    without = {key: value for key, value in GOOD.items() if key != "marker"}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(without))
    assert "marker: is missing; expected a recipe, since the study has sources" in refused(file)
    assert load_study(written(tmp_path, sources=[], training_questions=[])).marker is not None


def test_targets_default_to_all_personas(tmp_path: Path) -> None:
    assert load_study(written(tmp_path)).targets == tuple(PERSONAS)
    few = {**GOOD["marker"], "evaluation": {"targets": ["villain", "comedian"]}}
    assert load_study(written(tmp_path, marker=few)).targets == ("villain", "comedian")


def test_personas_are_drawn_by_the_documented_rule() -> None:
    personas = list(load_study("published").personas)
    chosen = recipe("marker_only")
    # Fails if NumPy changes its permutation, which would train adapters on other personas.
    assert chosen.drawn_personas("villain", personas) == ["medical_doctor", "police_officer"]
    assert chosen.drawn_personas("assistant", personas) == ["software_engineer", "zelthari_scholar"]

    seed = int.from_bytes(hashlib.sha256(b'"comedian"').digest()[:8])
    others = sorted(set(personas) - {"comedian"})
    expected = [others[place] for place in np.random.Generator(np.random.PCG64([42, seed])).permutation(10)[:2]]
    assert chosen.drawn_personas("comedian", personas) == expected


def test_drawn_personas_are_independent_of_order_and_exclude_the_source() -> None:
    personas = list(load_study("published").personas)
    for name in ("marker_only", "embedded"):
        chosen = recipe(name)
        for source in personas:
            drawn = chosen.drawn_personas(source, personas)
            assert drawn == chosen.drawn_personas(source, personas[::-1])
            assert len(set(drawn)) == len(drawn) == (2 if name == "marker_only" else 10)
            assert source not in drawn


def test_drawn_personas_differ_with_source_and_seed() -> None:
    personas = list(load_study("published").personas)
    chosen = recipe("embedded")
    orders = {tuple(sorted(recipe("marker_only").drawn_personas(source, personas))) for source in personas}
    assert len(orders) > 5
    reseeded = recipe("embedded", training={"seed": 43})
    assert reseeded.drawn_personas("villain", personas) != chosen.drawn_personas("villain", personas)
    assert sorted(reseeded.drawn_personas("villain", personas)) == sorted(chosen.drawn_personas("villain", personas))


def test_negatives_outside_the_study_are_drawn_instead_of_targets() -> None:
    outside = {"pirate": "You are a pirate.", "monk": "You are a monk."}
    personas = list(load_study("published").personas)
    drawn = recipe("marker_only", negatives={"outside": outside}).drawn_personas("villain", personas)
    assert sorted(drawn) == ["monk", "pirate"]
    named = recipe("marker_only", negatives={"outside": outside, "personas": ["monk", "comedian", "villain"]})
    assert named.drawn_personas("villain", personas) == ["monk", "comedian"]


def test_one_seed_and_default_additions_keep_the_digest_of_earlier_versions() -> None:
    chosen = recipe("marker_only")
    dumped = chosen.model_dump(mode="json")
    assert dumped["training"]["seed"] == 42
    assert not {"seeds", "follow"} & set(dumped["training"])
    assert "outside" not in dumped["negatives"]
    assert "log_probs" not in dumped
    assert recipe("marker_only", training={"seeds": [42]}).digest == chosen.digest
    assert recipe("marker_only", training={"seeds": [42, 43]}).digest != chosen.digest


def test_a_recipes_digest_covers_its_values_and_not_its_name() -> None:
    chosen = recipe("marker_only")
    assert chosen.model_copy(update={"name": "other"}).digest == chosen.digest
    assert recipe("marker_only", lora={"r": 32}).digest == chosen.digest
    changes = [
        {"lora": {"r": 16}},
        {"training": {"seed": 1}},
        {"evaluation": {"samples": 9}},
        {"loss": {"where": "completion"}},
    ]
    assert len({chosen.digest, *(recipe("marker_only", **change).digest for change in changes)}) == 5


@pytest.mark.parametrize("name", ["embedded", "published", "mine"])
def test_a_study_survives_a_round_trip_through_yaml(tmp_path: Path, name: str) -> None:
    study = load_study(written(tmp_path) if name == "mine" else name)
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False))
    assert load_study(again) == study


@pytest.mark.parametrize("name", ["embedded", "published"])
def test_the_shipped_studies_have_forty_original_training_questions(name: str, repository: Path) -> None:
    study = load_study(name)
    ours = {question.casefold() for question in study.training_questions}
    assert len(ours) == len(study.training_questions) == 40
    assert not ours & {question.casefold() for question in study.questions}

    reference = repository.parent / "shared/reference"
    if not reference.is_dir():
        pytest.skip(f"the published questions do not exist: {reference}")
    for file, number in {"data_questions_40.json": 40, "eval_questions.json": 20}.items():
        published = {question.casefold() for question in json.loads((reference / file).read_text())}
        assert len(published) == number
        assert not ours & published
