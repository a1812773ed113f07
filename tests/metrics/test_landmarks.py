"""Landmark estimates: exact under their model, with calibrated errors otherwise."""

import numpy as np
import pytest
import xarray as xr

from persona_assets.metrics import average_over_responses, divergence_matrix, estimate_over_all

PERSONAS, QUESTIONS = 12, 4
NAMES = [f"p{number}" for number in range(PERSONAS)]
UPPER = np.triu_indices(PERSONAS, 1)


def made(own: float = 1.5, spread: float = 0.4, noise: float = 0.0, seed: int = 0) -> xr.DataArray:
    """Make values pair level × generator factor × (`own` on a persona's own responses), with noise."""
    random = np.random.default_rng(seed)
    level = random.gamma(4.0, 0.01, (PERSONAS, PERSONAS))
    level = (level + level.T) * (1 - np.eye(PERSONAS))
    factor = np.exp(spread * random.standard_normal(PERSONAS))
    factor /= factor.mean()
    g, i, j = np.indices((PERSONAS,) * 3)
    values = level * factor[:, None, None] * np.where((g == i) | (g == j), own, 1.0)
    shaken = np.exp(noise * random.standard_normal((PERSONAS, QUESTIONS, PERSONAS, PERSONAS)))
    values = values[:, None] * (shaken + shaken.swapaxes(2, 3)) / 2
    dims = ("generator", "question", "persona", "other")
    names = {"generator": NAMES, "question": list(range(QUESTIONS)), "persona": NAMES, "other": NAMES}
    return xr.DataArray(values, dims=dims, coords=names)


def at_pairs(matrix: xr.DataArray) -> np.ndarray:
    return matrix.to_numpy()[UPPER]


def test_it_is_exact_where_generators_differ_by_a_factor_alone() -> None:
    values = made(spread=0.0)
    estimate = estimate_over_all(values.sel(generator=["p1", "p4", "p9"]))
    whole = average_over_responses(values)
    np.testing.assert_allclose(estimate.estimate, whole, rtol=1e-9)
    plain = average_over_responses(values.sel(generator=["p1", "p4", "p9"]), "landmarks")
    assert (
        np.abs(at_pairs(plain) / at_pairs(whole) - 1).max() > 0.05
    )  # a plain mean over-weights a landmark's own pairs


def test_pair_ranks_are_exact_when_only_the_overall_level_is_wrong() -> None:
    values = made(spread=0.5)
    some = values.sel(generator=["p0", "p2", "p7", "p8"])
    whole, estimate = average_over_responses(values), estimate_over_all(some)
    ratio = at_pairs(estimate.estimate) / at_pairs(whole)
    assert ratio.std() / ratio.mean() < 0.04
    plain = at_pairs(average_over_responses(some, "landmarks")) / at_pairs(whole)
    assert ratio.std() / ratio.mean() < plain.std() / plain.mean() / 3


def test_with_all_personas_the_estimate_is_the_plain_mean_without_error() -> None:
    values = made(noise=0.3)
    estimate = estimate_over_all(values)
    np.testing.assert_allclose(estimate.estimate, average_over_responses(values), rtol=1e-12)
    assert not estimate.error.to_numpy().any()


def test_errors_have_about_their_nominal_coverage() -> None:
    values = made(spread=0.3, noise=0.4, seed=3)
    whole, random, inside = at_pairs(average_over_responses(values)), np.random.default_rng(1), []
    for _ in range(30):
        some = values.isel(generator=np.sort(random.choice(PERSONAS, 5, replace=False)))
        found = estimate_over_all(some)
        inside.append(np.abs(at_pairs(found.estimate) - whole) <= 2.776 * at_pairs(found.error))  # t, 4 degrees, 95 %
    assert 0.85 < np.mean(inside) < 0.99


def test_intervals_are_positive_and_contain_the_estimate() -> None:
    found = estimate_over_all(made(noise=0.8).isel(generator=[0, 1]))
    assert (at_pairs(found.low) > 0).all()
    assert (at_pairs(found.low) < at_pairs(found.estimate)).all()
    assert (at_pairs(found.estimate) < at_pairs(found.high)).all()


def test_kl_keeps_its_direction_and_stays_infinite() -> None:
    random = np.random.default_rng(5)
    values = made(spread=0.0) * xr.DataArray(random.gamma(9.0, 0.1, (PERSONAS, PERSONAS)), dims=("persona", "other"))
    values = xr.where(values.generator == values.persona, values * 2, values).transpose(*values.dims)
    values.loc[{"persona": "p3", "other": "p5"}] = np.inf
    some = values.sel(generator=["p1", "p6", "p10"])
    estimate = estimate_over_all(some).estimate
    assert float(estimate.sel(persona="p3", other="p5")) == np.inf
    finite = np.isfinite(estimate.to_numpy())
    np.testing.assert_allclose(
        estimate.to_numpy()[finite], average_over_responses(values).to_numpy()[finite], rtol=1e-6
    )


@pytest.mark.parametrize("generators", [["p1"], ["p1", "stranger"]])
def test_fewer_than_two_or_unknown_landmarks_are_rejected(generators: list[str]) -> None:
    values = made().isel(generator=range(len(generators))).assign_coords(generator=generators)
    with pytest.raises(ValueError, match="expected two or more of the personas"):
        estimate_over_all(values)


def by_generator(values: xr.DataArray) -> dict[str, xr.Dataset]:
    both = xr.Dataset({"js": values, "kl": 2 * values})
    return {str(name): both.sel(generator=name, drop=True) for name in values.generator.values}


def test_the_landmark_matrix_records_its_generators() -> None:
    values = made(noise=0.2)
    matrix = divergence_matrix(
        by_generator(values.sel(generator=["p2", "p5", "p8"])), "all", "landmarks", resamples=50, seed=1, level=0.9
    )
    assert list(matrix.generators.values) == ["all_estimated", "landmarks", "source", "target"]
    assert matrix.attrs["generators_shown"] == "all_estimated"
    assert matrix.attrs["generators_measured"] == "p2, p5, p8"
    assert list(matrix.persona.values) == NAMES
    own = matrix.js.sel(generators="source")
    assert list(own.persona.values[own.notnull().all("other")]) == ["p2", "p5", "p8"]
    assert matrix.js_error.sel(generators="landmarks").isnull().all()
    shown = matrix.js.sel(generators="all_estimated", drop=True)
    np.testing.assert_allclose(matrix.js_by_question.mean("question").transpose(*shown.dims), shown, rtol=1e-12)


def test_the_matrix_of_sources_lacks_pairs_of_two_others() -> None:
    values = made().sel(generator=["p2", "p5"])
    sources = ["p2", "p5"]
    apart = ~(values.persona.isin(sources) | values.other.isin(sources)) & (values.persona != values.other)
    matrix = divergence_matrix(by_generator(values.where(~apart)), "all", "sources", resamples=50, seed=1, level=0.9)
    shown = matrix.js.sel(generators="sources")
    np.testing.assert_array_equal(shown.isnull(), apart.transpose("persona", "other"))
    np.testing.assert_array_equal(matrix.js_by_question.isel(question=0).isnull(), apart.transpose("persona", "other"))
