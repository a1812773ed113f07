"""Labelled datasets: responses, matrices, cosines and the pair table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from persona_assets.metrics import (
    GENERATOR_SUBSETS,
    ResponseDivergence,
    build_leakage_table,
    build_pair_table,
    cosine_dataset,
    divergence_matrix,
    label_responses,
)

PERSONAS = ["villain", "assistant", "comedian"]
QUESTIONS = ["Why?", "How?"]
CATEGORIES = {"villain": "fictional", "assistant": "baseline", "comedian": "profession"}
LAYERS = [1, 5]
HIDDEN = 6


def response(seed: int, tokens: int) -> ResponseDivergence:
    random = np.random.default_rng(seed)
    js, kl = random.random((2, 3, 3)) * (1 - np.eye(3))
    token_js, token_kl, token_kl_reverse = random.random((3, tokens, 3))
    return ResponseDivergence((js + js.T) / 2, kl, token_js, token_kl, token_kl_reverse)


@pytest.fixture
def responses() -> dict[str, list[ResponseDivergence]]:
    """Make two responses of different lengths for every generator."""
    return {name: [response(10 * place, 4), response(10 * place + 1, 2)] for place, name in enumerate(PERSONAS)}


@pytest.fixture
def by_generator(responses: dict[str, list[ResponseDivergence]]) -> dict[str, xr.Dataset]:
    return {name: label_responses(given, name, PERSONAS, QUESTIONS) for name, given in responses.items()}


@pytest.fixture
def matrix(by_generator: dict[str, xr.Dataset]) -> xr.Dataset:
    return divergence_matrix(by_generator, shown="pair", resamples=200, seed=1, level=0.9)


def centroids(personas: Sequence[str] = PERSONAS) -> dict[str, xr.Dataset]:
    random = np.random.default_rng(3)
    return {
        name: xr.Dataset({"centroid": (("layer", "hidden"), random.random((2, HIDDEN)))}, coords={"layer": LAYERS})
        for name in personas
    }


@pytest.fixture
def cosine() -> xr.Dataset:
    return cosine_dataset(centroids(), {"study": PERSONAS, "few": PERSONAS[:2]})


def test_a_responses_values_are_labelled_by_question_and_persona(
    responses: dict[str, list[ResponseDivergence]], by_generator: dict[str, xr.Dataset]
) -> None:
    labelled, second = by_generator["assistant"], responses["assistant"][1]
    at = {"question": "How?", "persona": "comedian", "other": "villain"}
    assert labelled.js.sel(at) == second.js[2, 0]
    assert labelled.kl.sel(at) == second.kl[2, 0]
    assert labelled.attrs == {"generator": "assistant", "units": "nats"}
    assert labelled.tokens.values.tolist() == [4, 2]
    assert labelled.sizes == {"question": 2, "persona": 3, "other": 3, "token": 4}


def test_tokens_beyond_a_responses_end_are_nan(
    responses: dict[str, list[ResponseDivergence]], by_generator: dict[str, xr.Dataset]
) -> None:
    labelled, second = by_generator["assistant"], responses["assistant"][1]
    for name in ("token_js", "token_kl", "token_kl_reverse"):
        found = labelled[name].sel(question="How?").transpose("token", "persona").values
        np.testing.assert_array_equal(found[:2], getattr(second, name).astype(np.float32))
        assert np.isnan(found[2:]).all()
        assert labelled[name].sel(question="Why?").notnull().all()


@pytest.mark.parametrize("measure", ["js", "kl"])
def test_all_is_the_plain_mean_over_generators_and_questions(
    responses: dict[str, list[ResponseDivergence]], matrix: xr.Dataset, measure: str
) -> None:
    by_hand = np.mean([getattr(each, measure) for given in responses.values() for each in given], axis=0)
    found = matrix[measure].sel(generators="all").transpose("persona", "other")
    np.testing.assert_allclose(found, by_hand, rtol=1e-14)
    assert found.persona.values.tolist() == found.other.values.tolist() == PERSONAS


@pytest.mark.parametrize("measure", ["js", "kl"])
def test_source_is_the_first_of_a_pair_and_target_the_second(
    responses: dict[str, list[ResponseDivergence]], matrix: xr.Dataset, measure: str
) -> None:
    for choice, generator in (("source", "villain"), ("target", "comedian")):
        by_hand = np.mean([getattr(each, measure)[0, 2] for each in responses[generator]])
        found = matrix[measure].sel(generators=choice, persona="villain", other="comedian")
        assert found == pytest.approx(by_hand, rel=1e-14)


def test_js_by_source_is_the_transpose_of_js_by_target(matrix: xr.Dataset) -> None:
    source, target = (
        matrix.js.sel(generators=choice, drop=True).transpose("persona", "other") for choice in ("source", "target")
    )
    np.testing.assert_allclose(source, target.values.T, rtol=1e-14)
    assert not np.allclose(source, target)


def test_every_generator_subset_has_an_interval(matrix: xr.Dataset) -> None:
    assert matrix.generators.values.tolist() == list(GENERATOR_SUBSETS)
    for measure in ("js", "kl"):
        assert (matrix[f"{measure}_low"] <= matrix[measure] + 1e-12).all()
        assert (matrix[measure] <= matrix[f"{measure}_high"] + 1e-12).all()
    assert (matrix.js_low < matrix.js_high).any()
    assert matrix.attrs == {
        "generators_shown": "pair", "questions": 2, "resamples": 200, "seed": 1, "level": 0.9, "units": "nats",
    }  # fmt: skip


def test_the_matrix_is_built_by_name_not_position(by_generator: dict[str, xr.Dataset], matrix: xr.Dataset) -> None:
    shuffled = {
        name: by_generator[name].sel(persona=PERSONAS[::-1], other=PERSONAS[::-1])
        for name in ("comedian", *PERSONAS[:2])
    }
    found = divergence_matrix(shuffled, shown="pair", resamples=200, seed=1, level=0.9)
    assert found.persona.values.tolist() == ["comedian", "villain", "assistant"]
    xr.testing.assert_allclose(found.sel(persona=PERSONAS, other=PERSONAS), matrix, rtol=1e-14)


def test_cosines_are_labelled_by_population_and_layer(cosine: xr.Dataset) -> None:
    given = {name: dataset.centroid.values for name, dataset in centroids().items()}
    for population, members in (("study", PERSONAS), ("few", PERSONAS[:2])):
        for place, layer in enumerate(LAYERS):
            mean = np.mean([given[name][place] for name in members], axis=0)
            a, b = given["villain"][place] - mean, given["comedian"][place] - mean
            found = cosine.cosine.sel(population=population, layer=layer, persona="villain", other="comedian")
            assert found == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)


def test_cosines_record_the_personas_of_each_population(cosine: xr.Dataset) -> None:
    assert cosine.attrs == {
        "population_study": "villain, assistant, comedian",
        "population_few": "villain, assistant",
    }


def test_cosine_by_question_exists_only_if_states_are_stored(cosine: xr.Dataset) -> None:
    assert "cosine_by_question" not in cosine
    random = np.random.default_rng(5)
    kept = {name: random.random((len(QUESTIONS), len(LAYERS), HIDDEN)) for name in PERSONAS}
    with_states = {
        name: xr.Dataset(
            {"state": (("question", "layer", "hidden"), states), "centroid": (("layer", "hidden"), states.mean(0))},
            coords={"question": QUESTIONS, "layer": LAYERS},
        )
        for name, states in kept.items()
    }
    found = cosine_dataset(with_states, {"study": PERSONAS, "few": PERSONAS[:2]})
    assert found.cosine_by_question.dims == ("population", "question", "layer", "persona", "other")
    first, second = ({name: states[place] for name, states in kept.items()} for place in range(2))
    for population, members in (("study", PERSONAS), ("few", PERSONAS[:2])):
        at = {"population": population, "layer": 5, "persona": "villain", "other": "comedian"}
        halves = []
        for only in (first, second):
            mean = np.mean([only[name][1] for name in members], axis=0)
            a, b = only["villain"][1] - mean, only["comedian"][1] - mean
            halves.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        # With two questions, leaving one out leaves the other.
        expected = [2 * float(found.cosine.sel(at)) - halves[1], 2 * float(found.cosine.sel(at)) - halves[0]]
        np.testing.assert_allclose(found.cosine_by_question.sel(at).sel(question=QUESTIONS), expected, atol=1e-12)
    without_one = {**with_states, "villain": with_states["villain"].drop_vars("state")}
    assert "cosine_by_question" not in cosine_dataset(without_one, {"study": PERSONAS})


@pytest.fixture
def pairs(matrix: xr.Dataset, cosine: xr.Dataset) -> pd.DataFrame:
    reordered = cosine.sel(persona=PERSONAS[::-1], other=PERSONAS[::-1])  # matched by name, not position
    return build_pair_table(matrix, reordered, CATEGORIES)


def test_the_pair_table_has_every_ordered_pair_once(pairs: pd.DataFrame) -> None:
    assert list(zip(pairs.source, pairs.target, strict=True)) == [(a, b) for a in PERSONAS for b in PERSONAS if a != b]
    assert pairs.columns.tolist() == [
        *("source", "target", "source_category", "target_category", "js", "js_low", "js_high"),
        *(f"js_{choice}" for choice in GENERATOR_SUBSETS),
        *("kl", "kl_reverse"),
        *("cosine_study_layer1", "cosine_study_layer5", "cosine_few_layer1", "cosine_few_layer5"),
    ]


def test_the_pair_tables_values_are_looked_up_by_name(
    pairs: pd.DataFrame, matrix: xr.Dataset, cosine: xr.Dataset
) -> None:
    shown = matrix.sel(generators="pair")
    for row in pairs.to_dict("records"):
        at = {"persona": row["source"], "other": row["target"]}
        for name in ("js", "js_low", "js_high", "kl"):
            assert row[name] == shown[name].sel(at)
        for choice in GENERATOR_SUBSETS:
            np.testing.assert_equal(row[f"js_{choice}"], float(matrix.js.sel(at | {"generators": choice})))
        for population in ("study", "few"):
            for layer in LAYERS:
                expected = cosine.cosine.sel(at | {"population": population, "layer": layer})
                assert row[f"cosine_{population}_layer{layer}"] == expected
    assert pairs.set_index("source").source_category.to_dict()["villain"] == "fictional"
    assert pairs.set_index("target").target_category.to_dict()["comedian"] == "profession"


def test_kl_reverse_is_the_kl_of_the_reversed_pair(pairs: pd.DataFrame) -> None:
    by_dyad = pairs.set_index(["source", "target"])
    for source, target in by_dyad.index:
        assert by_dyad.kl_reverse[source, target] == by_dyad.kl[target, source]
    assert not np.allclose(pairs.kl, pairs.kl_reverse)


def test_matrices_of_different_personas_are_not_joined(matrix: xr.Dataset) -> None:
    strangers = cosine_dataset(centroids(["villain", "assistant", "librarian"]), {"study": ["villain", "assistant"]})
    with pytest.raises(ValueError, match=r"centroid_cosine has .*'librarian'.*expected the same personas"):
        build_pair_table(matrix, strangers, dict.fromkeys(PERSONAS, "persona"))


@pytest.fixture
def leakage() -> pd.DataFrame:
    """Make leakage of one source, the villain, to the comedian, with base rates of the comedian only."""
    counts = pd.DataFrame({"target": PERSONAS, "found": [9, 0, 4], "total": 10})
    return build_leakage_table({"villain": counts}, counts[2:], CATEGORIES, {"comedian": ["villain"]}, "marker_only")


def test_the_outcome_is_joined_to_the_predictors(
    matrix: xr.Dataset, cosine: xr.Dataset, pairs: pd.DataFrame, leakage: pd.DataFrame
) -> None:
    joined = build_pair_table(matrix, cosine, CATEGORIES, leakage[::-1])
    pd.testing.assert_frame_equal(joined[pairs.columns], pairs)
    outcome = joined.drop(columns=pairs.columns).set_index(pd.MultiIndex.from_frame(joined[["source", "target"]]))
    assert outcome.dtypes.astype(str).to_dict() == {
        **dict.fromkeys(("leakage_found", "leakage_total"), "Int64"),
        **dict.fromkeys(("leakage_rate", "leakage_low", "leakage_high", "base_rate", "source_rate"), "float64"),
        "related": "boolean",
    }
    measured = leakage.set_index("target").loc["comedian"]
    assert outcome.loc["villain", "comedian"].tolist() == [
        *(4, 10, 0.4, measured.rate_low, measured.rate_high),
        *(0.4, 0.9, True),
    ]
    assert outcome.loc["villain", "assistant"].isna().tolist() == [False] * 5 + [True] + [False] * 2
    assert outcome[outcome.index.get_level_values("source") != "villain"].isna().all(axis=None)


def test_outcome_columns_exist_even_without_a_measured_dyad(
    matrix: xr.Dataset, cosine: xr.Dataset, leakage: pd.DataFrame
) -> None:
    joined = build_pair_table(matrix, cosine, CATEGORIES, leakage)
    nothing = build_pair_table(matrix, cosine, CATEGORIES, leakage[:0])
    pd.testing.assert_series_equal(nothing.dtypes, joined.dtypes)
    assert nothing.leakage_found.isna().all()


def test_outcomes_by_log_probability_have_columns_only_where_they_were_measured(
    matrix: xr.Dataset, cosine: xr.Dataset, leakage: pd.DataFrame
) -> None:
    without = build_pair_table(matrix, cosine, CATEGORIES, leakage)
    assert not [name for name in without if "expected" in name or "gain" in name or "negative" in name]
    measured = leakage.assign(
        expected_rate=0.4, expected_rate_low=0.3, log_prob_gain=2.5, trained_negative=True, negative_share=0.25
    ).astype({"trained_negative": "boolean"})
    joined = build_pair_table(matrix, cosine, CATEGORIES, measured)
    added = joined.drop(columns=without.columns)
    assert added.columns.tolist() == [
        *("expected_rate", "expected_rate_low", "log_prob_gain", "trained_negative", "negative_share")
    ]
    dyad = (joined["source"] == "villain") & (joined["target"] == "comedian")
    assert added[dyad].iloc[0].tolist() == [0.4, 0.3, 2.5, True, 0.25]
    assert added["expected_rate"].notna().sum() == len(leakage)
    assert str(joined.dtypes["trained_negative"]) == "boolean"


def test_a_leakage_table_of_version_0_1_0_is_joined(
    matrix: xr.Dataset, cosine: xr.Dataset, leakage: pd.DataFrame
) -> None:
    new = ("expected", "gain", "seeds", "replies", "negative")
    old = leakage[[name for name in leakage if not any(part in name for part in new)]].astype(
        {"found": "int64", "total": "int64"}
    )
    assert len(old.columns) == 20
    joined = build_pair_table(matrix, cosine, CATEGORIES, old)
    pd.testing.assert_frame_equal(joined, build_pair_table(matrix, cosine, CATEGORIES, leakage))


def test_leakage_of_unknown_personas_is_rejected(matrix: xr.Dataset, cosine: xr.Dataset, leakage: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"leakage names \['librarian'\], which are not in the matrices; expected"):
        build_pair_table(matrix, cosine, CATEGORIES, leakage.replace({"target": {"comedian": "librarian"}}))


def test_leakage_with_repeated_dyads_or_self_pairs_is_rejected(
    matrix: xr.Dataset, cosine: xr.Dataset, leakage: pd.DataFrame
) -> None:
    for bad in (pd.concat([leakage, leakage[:1]]), leakage.assign(target="villain")[:1]):
        with pytest.raises(ValueError, match=r"leakage: villain → \w+ appears twice or pairs a persona with itself"):
            build_pair_table(matrix, cosine, CATEGORIES, bad)
    with pytest.raises(ValueError, match=r"leakage lacks \['base_rate'\]"):
        build_pair_table(matrix, cosine, CATEGORIES, leakage.drop(columns="base_rate"))


@pytest.mark.parametrize("design", ["full", "landmarks", "sources"])
def test_a_response_without_an_answer_is_left_out_and_counted(
    responses: dict[str, list[ResponseDivergence]], design: str
) -> None:
    given = {name: [first, None if name == "villain" else second] for name, (first, second) in responses.items()}
    labelled = {name: label_responses(each, name, PERSONAS, QUESTIONS) for name, each in given.items()}
    assert labelled["villain"].tokens.values.tolist() == [4, 0]
    assert bool(labelled["villain"].js.sel(question="How?").isnull().all())
    generators = labelled if design == "full" else {name: labelled[name] for name in PERSONAS[:2]}
    matrix = divergence_matrix(generators, "all", design, resamples=200, seed=1, level=0.9)
    assert matrix.attrs["without_answer"] == f"1 of {2 * len(generators)}"
    shown = matrix.js.sel(generators=matrix.attrs["generators_shown"], persona="villain", other="comedian")
    scored = [response.js[0, 2] for name in generators for response in given[name] if response is not None]
    if design == "landmarks":
        assert bool(np.isfinite(shown))
    else:
        assert float(shown) == pytest.approx(np.mean(scored))
