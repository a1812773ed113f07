"""Power simulation: real differences are detected, absent ones are not, and the assumptions are recorded."""

import math
from dataclasses import replace
from itertools import permutations
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_assets.statistics.binomial import MixedFit
from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.jackknife import left_out_weights
from persona_assets.statistics.power import PowerCurve, left_out_spearman, power_of, sources_needed
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import correlation_matrices


def study(personas: int, sources: int) -> Dyads:
    """Make dyads with JS related to leakage and a cosine that is unrelated to both."""
    rng = np.random.default_rng(7)
    js, cosine = rng.standard_normal((2, personas, personas))
    np.fill_diagonal(js, np.nan)
    np.fill_diagonal(cosine, np.nan)
    source, target = np.array([pair for pair in permutations(range(personas), 2) if pair[0] < sources]).T
    found = rng.binomial(200, 1 / (1 + np.exp(1 + js[source, target] + rng.standard_normal(len(source))))).astype(float)
    return Dyads(
        personas=tuple(f"p{number}" for number in range(personas)),
        source=source,
        target=target,
        outcome=found / 200,
        found=found,
        total=np.full(len(source), 200.0),
        predictors={"js": js, "cosine": cosine},
        categories=("any",) * personas,
    )


def fitted(js: float, cosine: float = 0.0, sigmas: tuple[float, float, float] = (1.0, 0.3, 0.8)) -> MixedFit:
    return MixedFit(
        slopes={"js": js, "cosine": cosine},
        intervals=MappingProxyType({}),
        p=MappingProxyType({}),
        intercept=-1.0,
        sigma_source=sigmas[0],
        sigma_target=sigmas[1],
        sigma_dyad=sigmas[2],
        means={"js": 0.0, "cosine": 0.0},
        sds={"js": 1.0, "cosine": 1.0},
        log_likelihood=math.nan,
        note="",
    )


def curve(fit: MixedFit, dyads: Dyads | None = None, **changed: Any) -> PowerCurve:
    return sources_needed(fit, dyads or study(11, 5), "js", "cosine", **changed)


@given(st.integers(3, 8), st.integers(2, 6), st.integers(2, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_leaving_out_by_value_equals_leaving_out_dyads(sources: int, targets: int, values: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(sources), targets)
    sample = rng.integers(values, size=(3, len(source))).astype(np.float64)
    weights = np.vstack([np.ones(len(source)), left_out_weights(source)])
    slow = correlation_matrices(sample, weights, "spearman")[:, 0, 1:]
    np.testing.assert_allclose(left_out_spearman(sample, source), slow, rtol=1e-9, atol=1e-12)


def test_a_strong_difference_needs_few_sources_and_the_search_stops_there() -> None:
    found = curve(fitted(js=-1.5), sizes=(4, 8, 16, 32, 64))
    assert found.needed is not None
    assert found.needed <= 16
    assert found.sizes == (4, 8, 16, 32, 64)[: len(found.sizes)]
    assert found.share[-1] >= 0.8 > max(found.share[:-1], default=0.0)


def test_needed_is_interpolated_between_the_last_two_sizes_on_a_log_scale() -> None:
    found = curve(fitted(js=-0.5), simulations=100)
    (below, above), (low, high) = found.sizes[-2:], found.share[-2:]
    assert low < 0.8 <= high
    between = np.interp(0.8, [low, high], [math.log(below), math.log(above)])
    assert found.needed == math.ceil(round(math.exp(between), 9))


def test_an_absent_difference_is_detected_only_by_chance() -> None:
    found = curve(fitted(js=0.0), sizes=(10, 30), simulations=400)
    assert max(found.share) < 0.06  # half of 0.05 has the observed sign
    assert found.needed is None
    assert found.sizes == (10, 30)


def test_a_difference_of_the_other_sign_does_not_count() -> None:
    found = curve(fitted(js=0.0, cosine=-1.5), sizes=(10, 20), simulations=100)
    assert max(found.share) == 0.0


def test_power_grows_with_the_sources_and_shrinks_with_noise() -> None:
    sizes = (5, 20, 80)
    quiet = curve(fitted(js=-0.3), sizes=sizes, power=1.1)
    loud = curve(fitted(js=-0.3, sigmas=(3.0, 0.3, 3.0)), sizes=sizes, power=1.1)
    assert quiet.share[0] < quiet.share[1] < quiet.share[2]
    assert loud.share[2] < quiet.share[2]


def test_the_same_seed_gives_the_same_curve_and_another_seed_another() -> None:
    fit = fitted(js=-0.4)
    one, again, other = (curve(fit, sizes=(5, 10), seed=seed, simulations=60) for seed in (1, 1, 2))
    assert one == again
    assert one.note != other.note


def test_a_stricter_level_has_less_power() -> None:
    strict, loose = (curve(fitted(js=-0.5), sizes=(10,), level=level, power=1.1).share[0] for level in (0.99, 0.8))
    assert strict < loose


def test_studies_without_leakage_detect_nothing() -> None:
    found = curve(replace(fitted(js=-0.5), intercept=-60.0), sizes=(5, 10), simulations=20)
    assert found.share == (0.0, 0.0)
    assert found.needed is None


def test_the_note_records_the_assumptions() -> None:
    note = curve(fitted(js=0.0), sizes=(10,), simulations=50).note
    for said in ("the fitted mixed logistic model is true", "50 simulated studies", "10 targets per source"):
        assert said in note
    assert "delete-one-source jackknife, t(sources − 1), two-sided at 0.05" in note
    assert "mean difference in the studies of 10 sources" in note
    assert "observed +" in note


def test_the_number_of_targets_per_source_is_limited() -> None:
    note = curve(fitted(js=0.0), study(25, 5), sizes=(5,), simulations=5).note
    assert "20 of 24 targets per source" in note


def test_sources_are_drawn_only_from_personas_with_known_predictors() -> None:
    dyads = study(11, 5)
    js = dyads.predictors["js"].copy()
    js[6:, 0] = np.nan
    some = replace(dyads, predictors={**dyads.predictors, "js": js})
    assert (
        "sources drawn with replacement from 6 personas" in curve(fitted(js=-0.5), some, sizes=(5,), simulations=5).note
    )
    js[2:, 1] = np.nan
    few = replace(dyads, predictors={**dyads.predictors, "js": js}).known("js", "cosine")
    with pytest.raises(UnanswerableError, match="2 personas have a known js and cosine to all others"):
        curve(fitted(js=-0.5), few)


def test_an_observed_difference_of_0_is_rejected() -> None:
    dyads = study(11, 5)
    same = replace(dyads, predictors={"js": dyads.predictors["js"], "cosine": dyads.predictors["js"]})
    with pytest.raises(UnanswerableError, match="no difference"):
        curve(fitted(js=-0.5), same)
    with pytest.raises(UnanswerableError, match="no difference"):
        curve(fitted(js=-0.5), replace(dyads, outcome=np.zeros(dyads.n)))


def test_the_power_of_one_size_is_that_of_the_curve() -> None:
    fit, dyads = fitted(js=-0.5), study(11, 5)
    first = curve(fit, dyads, sizes=(10,), simulations=40, seed=3).share[0]
    assert power_of(fit, dyads, "js", "cosine", 10, simulations=40, seed=3) == first


def test_a_continuous_outcome_has_no_noise_of_counts() -> None:
    dyads = study(11, 5)
    continuous = replace(dyads, total=np.full(dyads.n, np.nan), outcome_name="log_prob_gain")
    of_counts, of_values = (curve(fitted(js=-0.5), made, sizes=(10,), simulations=60) for made in (dyads, continuous))
    assert "the fitted mixed linear model is true" in of_values.note
    assert abs(of_values.expected) > 0.8 * abs(of_counts.expected)
    few = replace(dyads, total=np.full(dyads.n, 2.0))
    assert abs(curve(fitted(js=-0.5), few, sizes=(10,), simulations=60).expected) < abs(of_values.expected)
