"""Averages of per-response divergences over generators and questions."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_assets.metrics import GENERATOR_SUBSETS, average_over_responses, bootstrap_over_questions

NAMES = ["assistant", "villain", "comedian", "librarian"]


def responses(personas: int = 4, questions: int = 5, seed: int = 0) -> xr.DataArray:
    """Make symmetric values with a zero diagonal, like JS."""
    values = np.random.default_rng(seed).random((personas, questions, personas, personas))
    values = (values + values.swapaxes(2, 3)) * (1 - np.eye(personas))
    names = [*NAMES, *(f"p{i}" for i in range(personas))][:personas]
    return xr.DataArray(
        values,
        dims=("generator", "question", "persona", "other"),
        coords={"generator": names, "question": np.arange(questions), "persona": names, "other": names},
    )


def by_hand(values: xr.DataArray, generators: str) -> np.ndarray:
    """Compute the mean by its definition, one response at a time."""
    personas, questions = values.sizes["persona"], values.sizes["question"]
    matrix = np.full((personas, personas), np.nan)
    for i in range(personas):
        for j in range(personas):
            chosen = {
                "all": range(personas),
                "pair": {i, j},
                "source": {i},
                "target": {j},
                "others": set(range(personas)) - {i, j},
            }[generators]
            cells = [float(values[g, q, i, j]) for g in chosen for q in range(questions)]
            if cells:
                matrix[i, j] = np.mean(cells)
    return matrix


@pytest.mark.parametrize("generators", GENERATOR_SUBSETS)
@pytest.mark.parametrize("personas", [1, 2, 4])
def test_each_response_of_the_subset_has_equal_weight(personas: int, generators: str) -> None:
    values = responses(personas) + xr.DataArray(np.arange(5.0), dims="question")
    matrix = average_over_responses(values, generators)
    assert matrix.dims == ("persona", "other")
    np.testing.assert_allclose(matrix, by_hand(values, generators), rtol=1e-14)


def test_others_of_two_personas_is_missing() -> None:
    matrix = average_over_responses(responses(2), "others")
    assert bool(np.isnan(matrix.values[0, 1]))
    low, high = bootstrap_over_questions(responses(2), "others", resamples=10, seed=0)
    assert bool(np.isnan(low.values[0, 1]))
    assert bool(np.isnan(high.values[0, 1]))


@pytest.mark.parametrize("generators", ["all", "pair", "others"])
def test_a_symmetric_divergence_averages_to_a_symmetric_matrix(generators: str) -> None:
    matrix = average_over_responses(responses(), generators).values
    np.testing.assert_array_equal(matrix, matrix.T)


def test_source_and_target_are_each_others_transpose() -> None:
    values = responses()
    np.testing.assert_array_equal(
        average_over_responses(values, "source").values, average_over_responses(values, "target").values.T
    )


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.permutations(NAMES), st.permutations(NAMES), st.permutations(NAMES), st.sampled_from(GENERATOR_SUBSETS))
def test_personas_are_aligned_by_name(first: list[str], second: list[str], third: list[str], generators: str) -> None:
    values = responses()
    shuffled = values.sel(generator=first, persona=second, other=third).transpose("other", "question", ...)
    matrix = average_over_responses(shuffled, generators)
    assert list(matrix["persona"].values) == list(matrix["other"].values) == list(second)
    np.testing.assert_allclose(matrix.sel(persona=NAMES, other=NAMES), average_over_responses(values, generators))


def test_an_infinite_kl_stays_with_the_responses_that_have_it() -> None:
    values = responses()
    values.loc[{"generator": "villain", "question": 3, "persona": "assistant", "other": "comedian"}] = np.inf
    assert average_over_responses(values, "all").sel(persona="assistant", other="comedian") == np.inf
    source = average_over_responses(values, "source")
    assert bool(np.isfinite(source).all())
    low, high = bootstrap_over_questions(values, "all", resamples=200, seed=0)
    assert high.sel(persona="assistant", other="comedian") == np.inf
    assert bool(np.isfinite(low).all())
    assert int(np.isinf(high).sum()) == 1


@pytest.mark.parametrize("generators", GENERATOR_SUBSETS)
def test_the_bootstrap_draws_each_question_for_all_generators_at_once(generators: str) -> None:
    values = responses(questions=6)
    low, high = bootstrap_over_questions(values, generators, resamples=50, seed=3, level=0.9)
    draws = np.random.default_rng(3).multinomial(6, np.full(6, 1 / 6), size=50)
    resampled = [by_hand(values.isel(question=np.repeat(np.arange(6), counts)), generators) for counts in draws]
    np.testing.assert_allclose(low, np.quantile(resampled, 0.05, axis=0), rtol=1e-12)
    np.testing.assert_allclose(high, np.quantile(resampled, 0.95, axis=0), rtol=1e-12)


def test_the_interval_is_the_same_for_the_same_seed_and_widens_with_its_level() -> None:
    values = responses(questions=20)
    low, high = bootstrap_over_questions(values, "all", resamples=500, seed=1)
    again = bootstrap_over_questions(values, "all", resamples=500, seed=1)
    xr.testing.assert_identical(low, again[0])
    xr.testing.assert_identical(high, again[1])
    narrow_low, narrow_high = bootstrap_over_questions(values, "all", resamples=500, seed=1, level=0.5)
    off_diagonal = ~np.eye(4, dtype=bool)
    mean = average_over_responses(values).values
    ordered = [x.values if isinstance(x, xr.DataArray) else x for x in (low, narrow_low, mean, narrow_high, high)]
    for lesser, greater in pairwise(ordered):
        assert bool((lesser < greater)[off_diagonal].all())


def test_one_question_leaves_no_uncertainty_over_questions() -> None:
    values = responses(questions=1)
    low, high = bootstrap_over_questions(values, "all", resamples=20, seed=0)
    np.testing.assert_allclose(low, average_over_responses(values), rtol=1e-15)
    np.testing.assert_allclose(high, low, rtol=1e-15)


def test_one_resample_is_its_own_interval() -> None:
    low, high = bootstrap_over_questions(responses(), "all", resamples=1, seed=0)
    xr.testing.assert_identical(low, high)
    assert not np.allclose(low, average_over_responses(responses()))


def test_an_unknown_subset_error_lists_the_choices() -> None:
    with pytest.raises(ValueError, match="'both'; expected one of all, pair, source, target, others"):
        average_over_responses(responses(), "both")


def test_a_missing_response_is_named() -> None:
    values = responses()
    values.loc[{"generator": "comedian", "question": 4}] = np.nan
    with pytest.raises(ValueError, match="generator comedian, question 4: value is missing"):
        average_over_responses(values)
    with pytest.raises(ValueError, match="generator comedian, question 4"):
        bootstrap_over_questions(values, "all", resamples=10, seed=0)


@pytest.mark.parametrize("dim", ["generator", "other"])
def test_personas_must_be_the_same_on_every_axis(dim: str) -> None:
    renamed = responses().assign_coords({dim: [*NAMES[:-1], "stranger"]})
    with pytest.raises(ValueError, match=f"dimension {dim} names .*stranger"):
        average_over_responses(renamed)
    with pytest.raises(ValueError, match=f"dimension {dim} has no coordinate"):
        average_over_responses(responses().drop_vars(dim))


def test_a_persona_missing_from_one_axis_is_rejected() -> None:
    with pytest.raises(ValueError, match="dimension other names"):
        average_over_responses(responses().isel(other=slice(0, 3)))


@pytest.mark.parametrize("generators", ["all", "pair", "others"])
def test_subsets_that_need_all_generators_are_rejected_when_some_are_missing(generators: str) -> None:
    with pytest.raises(ValueError, match=f"generators is '{generators}', but only 3 of 4 personas generated"):
        average_over_responses(responses().isel(generator=slice(0, 3)), generators)


def test_partial_designs_average_over_the_available_generators_or_the_source_alone() -> None:
    some = responses().sel(generator=["villain", "librarian"])
    together = average_over_responses(some, "landmarks")
    np.testing.assert_allclose(together, some.mean(["generator", "question"]), rtol=1e-14)
    own = average_over_responses(some, "source")
    np.testing.assert_allclose(
        own.sel(persona="villain"), some.sel(generator="villain", persona="villain").mean("question")
    )
    assert bool(own.sel(persona=["assistant", "comedian"]).isnull().all())


def test_only_pairs_without_any_response_are_missing() -> None:
    values = responses().sel(generator=["villain"]).copy()
    apart = (values.persona != "villain") & (values.other != "villain")
    matrix = average_over_responses(values.where(~apart), "sources")
    low, high = bootstrap_over_questions(values.where(~apart), "sources", resamples=50, seed=1)
    for each in (matrix, low, high):
        np.testing.assert_array_equal(each.isnull(), apart.transpose("persona", "other"))


def test_unexpected_dimensions_are_rejected() -> None:
    with pytest.raises(ValueError, match="values have dims"):
        average_over_responses(responses().isel(question=0))


@pytest.mark.parametrize(("resamples", "level", "message"), [(0, 0.95, "resamples is 0"), (10, 95.0, "level is 95")])
def test_an_interval_needs_resamples_and_a_level(resamples: int, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_over_questions(responses(), "all", resamples=resamples, seed=0, level=level)


@pytest.mark.parametrize("generators", GENERATOR_SUBSETS)
def test_responses_that_were_not_scored_are_left_out(generators: str) -> None:
    values = responses(3, 4)
    values[1, 2] = np.nan
    with pytest.raises(ValueError, match="generator villain, question 2: value is missing"):
        average_over_responses(values, generators)
    matrix = average_over_responses(values, generators, unscored=True)
    for i in range(3):
        for j in range(3):
            chosen = {"all": {0, 1, 2}, "pair": {i, j}, "source": {i}, "target": {j}, "others": {0, 1, 2} - {i, j}}
            cells = [values[g, q, i, j] for g in chosen[generators] for q in range(4) if (g, q) != (1, 2)]
            np.testing.assert_allclose(matrix[i, j], np.mean(cells), rtol=1e-14)
    low, high = bootstrap_over_questions(values, generators, 400, 0, unscored=True)
    assert bool(((low <= matrix) & (matrix <= high)).all())


def test_a_question_that_nobody_answered_leaves_the_interval_of_the_others() -> None:
    values = responses(3, 4)
    values[:, 3] = np.nan
    found = bootstrap_over_questions(values, "all", 2000, 0, unscored=True)
    expected = bootstrap_over_questions(values.isel(question=slice(3)), "all", 2000, 0)
    for side, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(side, other, atol=0.02)


def test_nothing_changes_by_a_digit_where_every_response_was_scored() -> None:
    values = responses(4, 6)
    for generators in GENERATOR_SUBSETS:
        assert average_over_responses(values, generators, unscored=True).equals(
            average_over_responses(values, generators)
        )
