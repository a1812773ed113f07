"""Centred cosine between centroids."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine as scipy_cosine_distance

from persona_assets.metrics import centred_cosine, cosine_pseudovalues

NAMES = ["assistant", "villain", "comedian", "librarian", "chef"]


def centroids(seed: int = 0, hidden: int = 16, common: float = 50.0) -> xr.DataArray:
    """Make five personas at three layers with a large common component, as in real hidden states."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((5, 3, hidden)) + common * random.standard_normal((1, 3, hidden))
    return xr.DataArray(values, dims=("persona", "layer", "hidden"), coords={"persona": NAMES, "layer": [10, 15, 20]})


@pytest.mark.parametrize("population", [NAMES, NAMES[:3], ["chef", "villain"]])
def test_the_mean_of_the_population_is_subtracted_before_the_cosine(population: list[str]) -> None:
    values = centroids()
    result = centred_cosine(values, population)
    centred = values.values - values.sel(persona=population).values.mean(axis=0)
    for layer in range(3):
        for i in range(5):
            for j in range(5):
                expected = 1 - scipy_cosine_distance(centred[i, layer], centred[j, layer])
                assert float(result[layer, i, j]) == pytest.approx(expected, abs=1e-13)


def test_dimensions_between_persona_and_hidden_are_kept() -> None:
    values = centroids()
    result = centred_cosine(values.astype(np.float32), NAMES)
    assert result.dims == ("layer", "persona", "other")
    assert list(result["layer"].values) == [10, 15, 20]
    assert list(result["other"].values) == NAMES
    assert result.dtype == np.float64
    one_layer = centred_cosine(values.sel(layer=15, drop=True), NAMES)
    assert one_layer.dims == ("persona", "other")
    np.testing.assert_allclose(one_layer, centred_cosine(values, NAMES).sel(layer=15), atol=1e-14)


def test_the_zero_vector_threshold_is_relative_to_each_layer() -> None:
    values = centroids()
    uneven = values * xr.DataArray([1e-20, 1.0, 1e6], dims="layer")
    np.testing.assert_allclose(centred_cosine(uneven, NAMES), centred_cosine(values, NAMES), atol=1e-12)


def test_the_result_names_its_centring_population() -> None:
    assert centred_cosine(centroids(), ["villain", "chef"]).attrs["centred_on"] == "villain, chef"


@settings(derandomize=True, deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31), hidden=st.integers(2, 200), common=st.floats(0, 1e4), scale=st.floats(1e-6, 1e6))
def test_cosine_is_symmetric_bounded_and_one_on_itself(seed: int, hidden: int, common: float, scale: float) -> None:
    values = centroids(seed, hidden, common)
    result = centred_cosine(values, NAMES)
    np.testing.assert_array_equal(result, result.transpose("layer", "other", "persona").values)
    assert bool((np.abs(result) <= 1).all())
    assert bool((np.diagonal(result.values, axis1=1, axis2=2) == 1).all())
    np.testing.assert_allclose(centred_cosine(values * scale, NAMES), result, atol=1e-8)


def test_two_personas_centred_on_themselves_point_in_opposite_directions() -> None:
    result = centred_cosine(centroids(), ["assistant", "villain"])
    opposite = result.sel(persona="assistant", other="villain")
    np.testing.assert_allclose(opposite, -1.0, atol=1e-12)
    assert float(opposite.min()) >= -1.0


def test_a_centroid_at_the_mean_is_named() -> None:
    values = centroids()
    values.loc[{"persona": "chef"}] = values.sel(persona=NAMES[:3]).mean("persona")
    with pytest.raises(ValueError, match="persona chef equals the mean"):
        centred_cosine(values, NAMES[:3])


def test_a_centroid_that_is_not_finite_is_named() -> None:
    values = centroids()
    values.loc[{"persona": "librarian", "layer": 15}] = np.nan
    with pytest.raises(ValueError, match="persona librarian is not finite"):
        centred_cosine(values, NAMES[:3])


@pytest.mark.parametrize("population", [[], ["villain"], ["villain", "villain"]])
def test_a_population_is_two_or_more_personas(population: list[str]) -> None:
    with pytest.raises(ValueError, match="expected two or more personas, each once"):
        centred_cosine(centroids(), population)


def test_a_population_without_centroids_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"'pirate'.*no centroids"):
        centred_cosine(centroids(), ["assistant", "pirate"])


def test_centroids_need_names_and_a_hidden_dimension() -> None:
    with pytest.raises(ValueError, match=r"expected \(persona"):
        centred_cosine(centroids().rename(hidden="width"), NAMES)
    with pytest.raises(ValueError, match=r"expected \(persona"):
        centred_cosine(centroids().drop_vars("persona"), NAMES)
    with pytest.raises(ValueError, match="expected each once"):
        centred_cosine(centroids().assign_coords(persona=["a", "a", "b", "c", "d"]), ["b", "c"])


def states(questions: int = 6, seed: int = 0, noise: float = 0.5) -> xr.DataArray:
    """Make per-question states of the five personas, float32 as a model returns them."""
    random = np.random.default_rng(seed + 1)
    values = centroids(seed).expand_dims(question=[f"q{place}" for place in range(questions)])
    return (values + noise * random.standard_normal(values.shape)).astype(np.float32)


def test_pseudovalues_follow_the_leave_one_question_out_formula() -> None:
    values = states().astype(np.float64)
    found = cosine_pseudovalues(values, NAMES[:3])
    whole = centred_cosine(values.mean("question"), NAMES[:3])
    assert found.dims == ("question", "layer", "persona", "other")
    for place, question in enumerate(values["question"].values):
        without = centred_cosine(values.drop_sel(question=question).mean("question"), NAMES[:3])
        np.testing.assert_allclose(found[place], 6 * whole - 5 * without, atol=1e-11)
    assert found["question"].values.tolist() == values["question"].values.tolist()


def test_pseudovalues_average_to_the_cosine_less_its_jackknife_bias() -> None:
    values = states(noise=3.0).astype(np.float64)
    whole = centred_cosine(values.mean("question"), NAMES)
    without = [
        centred_cosine(values.drop_sel(question=question).mean("question"), NAMES)
        for question in values["question"].values
    ]
    bias = 5 * (sum(without) / 6 - whole)
    np.testing.assert_allclose(cosine_pseudovalues(values, NAMES).mean("question"), whole - bias, atol=1e-12)
    assert float(np.abs(bias).max()) > 0.01  # noise pulls cosines towards 0, so there is something to correct


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**31), questions=st.integers(2, 12), noise=st.floats(0, 100))
def test_pseudovalues_are_symmetric_and_one_on_themselves(seed: int, questions: int, noise: float) -> None:
    found = cosine_pseudovalues(states(questions, seed, noise), NAMES)
    np.testing.assert_array_equal(found, found.transpose("question", "layer", "other", "persona").values)
    assert bool((np.diagonal(found.values, axis1=2, axis2=3) == 1).all())


def test_pseudovalues_are_matched_by_name_not_position() -> None:
    values = states()
    reordered = values.isel(persona=[4, 2, 0, 1, 3]).transpose("hidden", "persona", "layer", "question")
    found = cosine_pseudovalues(reordered, NAMES[:3]).sel(persona=NAMES, other=NAMES)
    np.testing.assert_allclose(found, cosine_pseudovalues(values, NAMES[:3]), atol=1e-9)


def test_identical_questions_give_the_cosine_as_every_pseudovalue() -> None:
    values = states(4, noise=0.0).astype(np.float64)
    whole = centred_cosine(values.isel(question=0, drop=True), NAMES)
    for pseudovalue in cosine_pseudovalues(values, NAMES):
        np.testing.assert_allclose(pseudovalue, whole, atol=1e-12)


def test_one_question_has_no_pseudovalue() -> None:
    found = cosine_pseudovalues(states(1), NAMES)
    assert found.shape == (1, 3, 5, 5)
    assert bool(found.isnull().all())


def test_a_pseudovalue_is_nan_if_leaving_its_question_out_gives_a_zero_vector() -> None:
    values = states(3).astype(np.float64)
    centred_on = NAMES[:3]
    # Without q2 the chef's centroid equals the population's mean; with q2 it does not.
    for question in ("q0", "q1"):
        values.loc[{"persona": "chef", "question": question}] = values.sel(persona=centred_on, question=question).mean(
            "persona"
        )
    found = cosine_pseudovalues(values, centred_on)
    others = [name for name in NAMES if name != "chef"]
    assert bool(found.sel(question="q2", persona="chef", other=others).isnull().all())
    assert bool(found.sel(question="q2", other="chef", persona=others).isnull().all())
    assert bool(found.sel(question=["q0", "q1"]).notnull().all())
    assert bool(found.sel(persona=others, other=others).notnull().all())


def test_states_whose_centred_mean_is_zero_are_rejected() -> None:
    values = states(3)
    values.loc[{"persona": "chef", "question": "q1"}] = np.nan
    with pytest.raises(ValueError, match="persona chef is not finite"):
        cosine_pseudovalues(values, NAMES[:3])
    with pytest.raises(ValueError, match=r"expected \(persona, question, \.\.\., hidden\)"):
        cosine_pseudovalues(centroids(), NAMES)
