"""What a study accepts, and what its error messages say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from persona_assets.study import Study, StudyError
from persona_assets.study.files import load_study
from persona_assets.study.settings import Decoding

GOOD: dict[str, Any] = {
    "name": "mine",
    "baseline": "assistant",
    "personas": {
        "assistant": {"prompt": "You are a helpful assistant.", "category": "baseline"},
        "villain": {"prompt": "You are a villain."},
        "comedian": {"prompt": "You are a comedian."},
    },
    "questions": ["What makes a good leader?", "How do airplanes stay in the air?"],
    "decoding": {"max_new_tokens": 8},
    "layers": [1, 2],
}


def written(folder: Path, **changes: Any) -> Path:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({**GOOD, **changes}, sort_keys=False))
    return file


def personas(**changes: Any) -> dict[str, Any]:
    return {**GOOD["personas"], **changes}


def test_a_study_keeps_the_order_of_its_file(tmp_path: Path) -> None:
    study = load_study(written(tmp_path))
    assert list(study.prompts) == ["assistant", "villain", "comedian"]
    assert study.questions == tuple(GOOD["questions"])
    assert study.population("study") == ("assistant", "villain", "comedian")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"temprature": 1}, ["temprature: unknown field", "1"], id="unknown field"),
        pytest.param(
            {"decoding": {"max_new_tokens": 8, "beams": 4}},
            ["decoding.beams: unknown field", "4"],
            id="unknown in a part",
        ),
        pytest.param({"layers": None}, ["layers", "None"], id="null"),
        pytest.param(
            {"personas": personas(villain={"prompt": "  \n"})},
            ["personas.villain: prompt is blank", "expected the system prompt", "null for none"],
            id="empty prompt",
        ),
        pytest.param({"personas": personas(villain={})}, ["personas.villain.prompt: is missing"], id="no prompt"),
        pytest.param(
            {"personas": personas(**{"Evil Twin": {"prompt": "x"}})},
            ["personas: 'Evil Twin' is not a name", "expected lower-case letters"],
            id="persona's name",
        ),
        pytest.param({"name": "../mine"}, ["name: '../mine' is not a name", "expected lower-case"], id="study's name"),
        pytest.param(
            {"centring_populations": {"Odd One": "all"}},
            ["'Odd One' is not a name", "expected"],
            id="population's name",
        ),
        pytest.param(
            {"personas": {"assistant": {"prompt": "x"}}},
            ["personas: found 1 persona", "at least two"],
            id="one persona",
        ),
        pytest.param({"baseline": "robot"}, ["baseline: 'robot'", "['assistant', 'villain'"], id="unknown baseline"),
        pytest.param({"layers": [-1]}, ["layers: found -1", "a block number"], id="negative layer"),
        pytest.param({"layers": [1.5]}, ["layers: found 1.5", "between 0.0 and 1.0"], id="depth above 1"),
        pytest.param({"layers": [float("nan")]}, ["layers: found nan", "between 0.0 and 1.0"], id="depth not a number"),
        pytest.param({"layers": [3, 3]}, ["layers: found [3, 3]", "duplicate", "each layer once"], id="layer twice"),
        pytest.param({"layers": []}, ["layers: found []", "at least 1"], id="no layer"),
        pytest.param({"questions": []}, ["questions: found no question", "at least one"], id="no question"),
        pytest.param(
            {"questions": ["Why?", " "]}, ["questions: question 2 is empty", "expected text"], id="empty question"
        ),
        pytest.param(
            {"questions": ["Why?", "How?", "Why?"]},
            ["questions: question 3", "'Why?'", "each question once"],
            id="repeated",
        ),
        pytest.param({"sources": ["robot"]}, ["sources: 'robot'", "expected one of ['assistant'"], id="unknown source"),
        pytest.param({"sources": ["villain"] * 2}, ["sources: 'villain' is listed twice"], id="source twice"),
        pytest.param(
            {"centring_populations": {"few": ["assistant", "robot"]}},
            ["centring_populations.few: 'robot'", "expected one of ['assistant'"],
            id="unknown persona in a population",
        ),
        pytest.param(
            {"centring_populations": {"few": ["assistant"]}},
            ["centring_populations.few: found 1 persona", "at least two"],
            id="population of one",
        ),
        pytest.param(
            {"centring_populations": {}}, ["centring_populations: found {}", "at least 1"], id="no population"
        ),
        pytest.param(
            {"decoding": {"max_new_tokens": 0}}, ["decoding.max_new_tokens: found 0", "greater than 0"], id="tokens"
        ),
        pytest.param(
            {"generators": "mine"}, ["generators: found 'mine'", "'all', 'pair' or 'others'"], id="generators"
        ),
    ],
)
def test_an_error_names_file_field_what_was_found_and_expected(
    tmp_path: Path, changes: dict[str, Any], expected: list[str]
) -> None:
    file = written(tmp_path, **changes)
    with pytest.raises(StudyError) as caught:
        load_study(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    for part in expected:
        assert part in message


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in GOOD.items() if key != "baseline"}))
    with pytest.raises(StudyError, match=r"mine\.yaml: baseline: is missing; expected a value"):
        load_study(file)


def test_a_duplicate_persona_is_rejected_with_its_position(tmp_path: Path) -> None:
    file = written(tmp_path)
    file.write_text(file.read_text().replace("  comedian:", "  villain:"))
    with pytest.raises(
        StudyError, match=r"mine\.yaml: line \d+, column 3: duplicate key 'villain'; expected each key once"
    ):
        load_study(file)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"name: [unclosed", "while parsing a flow sequence from line 1, column 7", id="not YAML"),
        pytest.param(b"name: \xff\xfe", "byte 6 is not UTF-8; expected a text file", id="not UTF-8"),
        pytest.param(b"- a\n- b\n", "found list; expected a mapping", id="a list"),
        pytest.param(b"", "found NoneType; expected a mapping", id="empty"),
        pytest.param(b"name: !!python/object/apply:os.getcwd []", "python/object", id="a Python object"),
    ],
)
def test_an_invalid_file_is_rejected_with_its_position(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(StudyError) as caught:
        load_study(file)
    assert str(file) in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_file_is_named_with_the_known_studies(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"absent\.yaml.*expected a YAML file or one of .*'embedded'.*'published'"):
        load_study(tmp_path / "absent.yaml")


def test_layers_are_blocks_or_depths(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, layers=[2, 0.0, 0.5, 1.0]))
    assert study.blocks(30) == [2, 0, 14, 29]  # round(0.5 × 29) = 14 (half to even)
    assert study.blocks(28) == [2, 0, 14, 27]


def test_block_1_and_depth_1_are_two_layers(tmp_path: Path) -> None:
    assert load_study(written(tmp_path, layers=[1, 1.0])).blocks(30) == [1, 29]


def test_a_layer_that_the_model_lacks_is_rejected(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, layers=[1, 30]))
    assert study.blocks(31) == [1, 30]
    with pytest.raises(StudyError, match=r"study mine: layers: found 30.*expected at most 29 \(it has 30 blocks\)"):
        study.blocks(30)


def test_two_layers_that_map_to_one_block_are_rejected(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, layers=[0.5, 14]))
    with pytest.raises(StudyError, match=r"layers: \[0\.5, 14\] are blocks \[14, 14\]; expected each block once"):
        study.blocks(30)


def test_the_environment_variable_selects_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERSONA_ASSETS_STUDY", str(written(tmp_path)))
    assert load_study().name == "mine"
    monkeypatch.setenv("PERSONA_ASSETS_STUDY", "published")
    assert load_study().name == "published"
    monkeypatch.delenv("PERSONA_ASSETS_STUDY")
    assert load_study().name == "embedded"


def test_the_embedded_study_has_11_personas_4_questions_24_tokens() -> None:
    study = load_study("embedded")
    assert (len(study.personas), len(study.questions), study.decoding.max_new_tokens) == (11, 4, 24)
    assert len(study.blocks(30)) == len(study.layers)  # SmolLM2-135M has 30 blocks


def test_the_published_study_is_the_published_comparison() -> None:
    study = load_study("published")
    assert (len(study.personas), len(study.questions)) == (11, 20)
    assert (study.decoding.method, study.decoding.max_new_tokens) == ("greedy", 512)
    assert study.blocks(28) == [10, 15, 20, 25]  # Qwen2.5-7B has 28 blocks
    assert study.scored_slice == "response_and_turn_end"


def test_the_published_study_has_the_published_questions(repository: Path) -> None:
    reference = repository.parent / "shared/reference/eval_questions.json"
    if not reference.is_file():
        pytest.skip(f"the published questions do not exist: {reference}")
    assert list(load_study("published").questions) == json.loads(reference.read_text())


def test_greedy_responses_do_not_depend_on_the_seed() -> None:
    greedy = Decoding(max_new_tokens=8)
    assert greedy.identity == greedy.model_copy(update={"seed": 7, "temperature": 0.5, "top_p": 0.9}).identity
    assert greedy.identity != greedy.model_copy(update={"max_new_tokens": 9}).identity


@pytest.mark.parametrize("change", [{"seed": 7}, {"temperature": 0.5}, {"top_p": 0.9}])
def test_sampled_responses_depend_on_seed_temperature_and_top_p(change: dict[str, Any]) -> None:
    sampled = Decoding(method="sampled", max_new_tokens=8)
    assert sampled.identity != sampled.model_copy(update=change).identity


def test_a_loaded_study_cannot_be_changed(tmp_path: Path) -> None:
    study: Study = load_study(written(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        study.baseline = "villain"  # type: ignore[misc]


def test_no_prompt_and_an_empty_one_are_two_conditions(tmp_path: Path) -> None:
    study = load_study(written(tmp_path, personas=personas(villain={"prompt": None}, comedian={"prompt": ""})))
    assert study.prompts == {"assistant": "You are a helpful assistant.", "villain": None, "comedian": ""}


@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        ({"template_variables": {"messages": "mine"}}, "chat.template_variables: messages is set for every prompt"),
        ({"template_variables": {"eos_token": "mine"}}, "chat.template_variables: eos_token is set for every prompt"),
        ({"template_variables": {"a b": True}}, "chat.template_variables: 'a b' is not the name of a variable"),
        ({"template_variables": {"a": [1]}}, "chat.template_variables.a"),
        ({"thinking": "hide"}, "chat.thinking: found 'hide'; input should be 'separate', 'keep' or 'suppress'"),
        ({"enable_thinking": False}, "chat.enable_thinking: unknown field"),
    ],
)
def test_an_invalid_chat_section_is_refused(tmp_path: Path, chat: dict[str, Any], expected: str) -> None:
    with pytest.raises(StudyError, match=re.escape(expected)):
        load_study(written(tmp_path, chat=chat))
