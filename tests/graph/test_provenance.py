"""Dependence of code versions and fingerprints on the settings of a study."""

import pytest

from persona_assets.graph.provenance import HEAVY, LIGHT, OF_SOURCES, code_version, personas_of, study_part
from persona_assets.study import Persona
from persona_assets.study.files import load_study
from persona_assets.study.settings import Bootstrap, ChatSettings, Decoding, Statistics

STUDY = load_study()


def with_recipe(**changes):
    return STUDY.marker.model_copy(
        update={name: getattr(STUDY.marker, name).model_copy(update=change) for name, change in changes.items()}
    )


def changed_by(update):
    edited = STUDY.model_copy(update=update)
    return {asset for asset in (*HEAVY, *LIGHT) if code_version(edited, asset) != code_version(STUDY, asset)}


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (
            {"questions": (*STUDY.questions, "Why is the sky blue?")},
            {"generations", "logit_js", "centroids", "marker_log_probs", "marker_rates", "report"},
        ),
        ({"decoding": Decoding(max_new_tokens=9)}, {"generations", "logit_js", "report"}),
        (
            {"chat": ChatSettings(template_variables={"enable_thinking": False})},
            {"generations", "logit_js", "centroids", *OF_SOURCES, "report"},
        ),
        (
            {"chat": ChatSettings(thinking="keep")},
            {"generations", "logit_js", *OF_SOURCES, "report"},
        ),
        ({"chat": ChatSettings(without_system_role="refuse")}, {"report"}),
        ({"layers": (16,)}, {"centroids", "report"}),
        ({"scored_slice": "response_and_turn_end"}, {"logit_js", "report"}),
        ({"deterministic": True}, {"logit_js", "marker_log_probs", "report"}),
        ({"bootstrap": Bootstrap(resamples=300)}, {"logit_js_matrix", "leakage_table", "report", "checkpoint_drift"}),
        ({"generators": "pair"}, {"logit_js_matrix", "report"}),
        ({"centring_populations": {"two": ("villain", "comedian")}}, {"centroid_cosine", "report"}),
        ({"baseline": "villain"}, {"partial_correlations", "figures", "report"}),
        ({"statistics": Statistics(permutations=500)}, {"partial_correlations", "report"}),
        ({"marker": with_recipe(training={"epochs": 1})}, {*OF_SOURCES, "report"}),
        ({"marker": with_recipe(training={"seeds": (42, 137)})}, {*OF_SOURCES, "report"}),
        ({"marker": with_recipe(evaluation={"samples": 1})}, {"marker_log_probs", "marker_rates", "report"}),
        ({"marker": with_recipe(log_probs={"samples": 7})}, {"marker_log_probs", "report"}),
        ({"training_questions": STUDY.training_questions[::-1]}, {*OF_SOURCES, "report"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_setting_changes_the_code_versions_of_the_assets_that_depend_on_it(update, expected):
    assert changed_by(update) == expected


def test_a_changed_prompt_changes_fingerprints_but_no_code_version():
    edited = STUDY.model_copy(
        update={"personas": STUDY.personas | {"villain": Persona(prompt="You are cruel.", category="fictional")}}
    )
    changed = {
        (asset, persona)
        for asset in HEAVY
        for persona in personas_of(STUDY, asset)
        if study_part(edited, asset, persona) != study_part(STUDY, asset, persona)
    }
    everyone = {("logit_js", persona) for persona in STUDY.personas}
    of_villain = {("generations", "villain"), ("centroids", "villain")}
    assert changed == of_villain | everyone | {(asset, "villain") for asset in OF_SOURCES}
    assert all(code_version(edited, asset) == code_version(STUDY, asset) for asset in (*HEAVY, *LIGHT))


def test_the_order_of_personas_and_the_studys_name_change_no_fingerprint():
    reordered = dict(reversed(STUDY.personas.items()))
    edited = STUDY.model_copy(update={"personas": reordered, "name": "other"})
    for asset in HEAVY:
        for persona in personas_of(STUDY, asset):
            assert study_part(edited, asset, persona) == study_part(STUDY, asset, persona)


def test_logit_js_of_a_landmark_is_the_same_artefact_as_in_the_full_design():
    landmarks = STUDY.model_copy(update={"design": "landmarks", "landmarks": ("assistant", "villain")})
    assert personas_of(landmarks, "logit_js") == personas_of(landmarks, "generations") == ["assistant", "villain"]
    assert personas_of(landmarks, "centroids") == list(STUDY.personas)
    for asset in HEAVY:
        for persona in personas_of(landmarks, asset):
            assert study_part(landmarks, asset, persona) == study_part(STUDY, asset, persona)
    assert changed_by({"design": "landmarks", "landmarks": ("assistant", "villain")}) == {"logit_js_matrix", "report"}


def test_the_sources_design_skips_pairs_and_so_has_its_own_logit_js():
    sources = STUDY.model_copy(update={"design": "sources"})
    found = study_part(sources, "logit_js", "villain")
    assert found.pop("paired_with") == ["villain"]
    assert found == study_part(STUDY, "logit_js", "villain")
    assert study_part(sources, "generations", "villain") == study_part(STUDY, "generations", "villain")
    assert changed_by({"design": "sources"}) == {"logit_js", "logit_js_matrix", "report"}
