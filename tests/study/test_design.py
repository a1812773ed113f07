"""Designs: which personas generate responses, and which pairs are compared."""

import itertools

import pytest
from pydantic import ValidationError

from persona_assets.files.yaml_files import describe_errors
from persona_assets.study import Study
from persona_assets.study.design import Drawn
from persona_assets.study.files import load_study

NAMES = [f"p{number}" for number in range(40)]
PUBLISHED = load_study("published")


def with_design(**fields: object) -> Study:
    return Study.model_validate({**PUBLISHED.model_dump(mode="json"), **fields})


def test_a_larger_draw_of_landmarks_includes_a_smaller_one() -> None:
    drawn = [set(Drawn(count=count).of(NAMES)) for count in range(2, 40)]
    assert [len(each) for each in drawn] == list(range(2, 40))
    assert all(fewer < more for fewer, more in itertools.pairwise(drawn))
    assert set(Drawn(count=5, seed=1).of(NAMES)) != set(Drawn(count=5, seed=2).of(NAMES))


def test_a_new_persona_changes_at_most_one_landmark() -> None:
    before = set(Drawn(count=8).of(NAMES))
    changes = [before - set(Drawn(count=8).of([*NAMES, f"new{number}"])) for number in range(30)]
    assert max(map(len, changes)) == 1
    assert sum(map(len, changes)) < 20  # the expectation is 30 · 8/41


def test_landmarks_are_in_the_order_of_the_study() -> None:
    named = with_design(design="landmarks", landmarks=["villain", "assistant", "librarian"])
    assert named.generating == tuple(name for name in PUBLISHED.personas if name in named.landmarks)  # type: ignore[operator]
    assert named.scoring == tuple(PUBLISHED.personas)
    assert named.paired_with is None
    assert all(named.compares(a, b) for a in PUBLISHED.personas for b in PUBLISHED.personas)
    assert Drawn(count=3).of(NAMES) == tuple(sorted(Drawn(count=3).of(NAMES), key=NAMES.index))


def test_sources_generate_and_every_pair_includes_a_source() -> None:
    study = with_design(design="sources")
    assert set(study.generating) == set(PUBLISHED.sources) == set(study.paired_with or ())
    assert study.compares("villain", "librarian")
    assert not study.compares("librarian", "data_scientist")
    assert study.compares("librarian", "librarian")


def test_sources_are_scored_only_under_the_prompts_of_targets_and_sources() -> None:
    assert PUBLISHED.marker is not None
    recipe = {"recipe": "marker_only", "evaluation": {"targets": ["librarian", "villain"]}}
    study = with_design(design="sources", marker=recipe)
    assert set(study.scoring) == {*PUBLISHED.sources, "librarian"}
    assert not study.compares("villain", "data_scientist")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"design": "landmarks"}, "landmarks: is missing; expected names, or count and seed"),
        ({"landmarks": ["villain"]}, "landmarks: found with design: full"),
        ({"design": "landmarks", "landmarks": ["villain", "nobody"]}, "landmarks: 'nobody' is not among the personas"),
        ({"design": "landmarks", "landmarks": ["villain", "villain"]}, "landmarks: 'villain' is listed twice"),
        ({"design": "landmarks", "landmarks": ["villain"]}, "landmarks: found 1 of 11 personas; expected at least 2"),
        (
            {"design": "landmarks", "landmarks": {"count": 11}},
            r"landmarks: found 11 of 11.*\(use design: full for all",
        ),
        ({"design": "landmarks", "landmarks": {"count": 1}}, "greater than or equal to 2"),
        (
            {"design": "landmarks", "landmarks": {"count": 3}, "generators": "pair"},
            "generators: found pair with",
        ),
        ({"design": "sources", "sources": [], "marker": None}, "design: found sources in a study without sources; exp"),
        (
            {"design": "landmarks", "landmarks": {"count": 3}, "imported": True, "sources": [], "marker": None},
            "design: found landmarks in an imported study; expected full",
        ),
        ({"design": "some"}, "'full', 'landmarks' or 'sources'"),
    ],
)
def test_an_invalid_design_is_rejected_with_a_message(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        with_design(**fields)


def test_landmarks_of_a_wrong_type_are_rejected_in_terms_of_yaml() -> None:
    with pytest.raises(ValidationError) as error:
        with_design(design="landmarks", landmarks={"names": ["villain"]})
    said = describe_errors(error.value)
    assert "landmarks: found {'names': ['villain']}; expected a list" in said
    assert "landmarks.count: is missing" in said
    assert "landmarks.names: unknown field" in said
