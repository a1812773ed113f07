"""Cluster bootstrap over sources, and over sources and targets."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from persona_assets.statistics.resampling import percentile_interval, source_weights, two_way_weights
from persona_assets.statistics.statement import Interval, UnanswerableError
from persona_assets.statistics.weighted import correlation_matrices

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference"


def interval(samples: np.ndarray, level: float = 0.95) -> Interval:
    return percentile_interval(samples, level, "cluster bootstrap", "sources", "Efron 1979")


def test_resamples_of_few_sources_are_enumerated_once() -> None:
    source = np.array([7, 7, 2, 5])
    weights, exact = source_weights(source, resamples=10, seed=0)
    assert exact
    assert weights.shape == (27, 4)
    by_source = weights[:, [2, 3, 0]]
    assert (by_source.sum(axis=1) == 3).all()
    np.testing.assert_array_equal(weights[:, 0], weights[:, 1])
    # multinomial: (3, 0, 0) once, (2, 1, 0) 3 times, (1, 1, 1) 3! times
    rows, times = np.unique(by_source, axis=0, return_counts=True)
    assert {tuple(row): int(count) for row, count in zip(rows, times, strict=True)} == {
        (3, 0, 0): 1, (0, 3, 0): 1, (0, 0, 3): 1,
        (2, 1, 0): 3, (2, 0, 1): 3, (1, 2, 0): 3, (0, 2, 1): 3, (1, 0, 2): 3, (0, 1, 2): 3,
        (1, 1, 1): 6,
    }  # fmt: skip


def test_resamples_of_many_sources_are_random_with_a_seed() -> None:
    source = np.repeat(np.arange(11), 10)
    weights, exact = source_weights(source, resamples=2000, seed=3)
    assert not exact
    assert weights.shape == (2000, 110)
    by_source = weights[:, ::10]
    np.testing.assert_array_equal(np.repeat(by_source, 10, axis=1), weights)
    assert (by_source.sum(axis=1) == 11).all()
    # the variance of Binomial(11, 1/11) is 10/11; the mean of 2,000 draws is within 5 standard errors of 1
    assert np.abs(by_source.mean(axis=0) - 1).max() < 5 * np.sqrt(10 / 11 / 2000)
    np.testing.assert_array_equal(source_weights(source, 2000, 3)[0], weights)
    assert not np.array_equal(source_weights(source, 2000, 4)[0], weights)


def test_the_limit_of_enumerated_resamples_is_inclusive() -> None:
    for sources, limit, exact in ((3, 27, True), (3, 26, False), (4, 256, True), (4, 255, False)):
        weights, found = source_weights(np.arange(sources), resamples=10, seed=0, exact_up_to=limit)
        assert (found, len(weights)) == (exact, limit if exact else 10)
    assert [source_weights(np.arange(sources), 10, 0)[1] for sources in (5, 6)] == [True, False]


def test_a_dyads_weight_is_source_count_times_target_count() -> None:
    source, target = (side.ravel() for side in np.indices((4, 6)))
    weights = two_way_weights(source, target + 2, resamples=500, seed=0).reshape(500, 4, 6)
    assert (weights.sum(axis=(1, 2)) == 24).all()
    of_source, of_target = weights.sum(axis=2) / 6, weights.sum(axis=1) / 4
    np.testing.assert_array_equal(weights, of_source[:, :, None] * of_target[:, None, :])
    assert abs(np.corrcoef(of_source[:, 0], of_target[:, 0])[0, 1]) < 0.2


@pytest.mark.parametrize("sources", [1, 2])
def test_fewer_than_three_sources_are_rejected(sources: int) -> None:
    source, target = np.arange(12) % sources, np.arange(12)
    with pytest.raises(UnanswerableError, match=rf"there (is|are) {sources} sources?; .* needs at least 3"):
        source_weights(source, 100, 0)
    with pytest.raises(UnanswerableError, match=f"{sources} source"):
        two_way_weights(source, target, 100, 0)
    with pytest.raises(UnanswerableError, match=f"{sources} target"):
        two_way_weights(target, source, 100, 0)


def test_the_interval_is_the_percentile_interval() -> None:
    found = interval(np.arange(101.0), level=0.9)
    assert (found.low, found.high) == pytest.approx((5.0, 95.0), abs=1e-12)
    assert (found.level, found.resamples, found.note) == (0.9, 101, "")


def test_resamples_without_a_value_are_dropped_and_counted() -> None:
    found = interval(np.array([np.nan, *np.arange(101.0), np.nan]), level=0.9)
    assert (found.low, found.high) == pytest.approx((5.0, 95.0), abs=1e-12)
    assert found.note.startswith("2 of 103 resamples dropped, because a variable is constant")


def test_an_interval_needs_at_least_one_value() -> None:
    with pytest.raises(UnanswerableError, match="a variable is constant in each of 8 resamples"):
        interval(np.full(8, np.nan))


def test_the_references_interval_of_the_difference_is_reproduced() -> None:
    table = REFERENCE / "qwen2.5-7b-instruct" / "dyads50.csv"
    if not table.is_file():
        pytest.skip(f"the published run is not there: {table}")
    dyads = pd.read_csv(table)
    columns = dyads[["leakage_rate", "js", "cosine_l20_centred11"]]
    weights, exact = source_weights(pd.factorize(dyads.source)[0], resamples=1, seed=0)
    matrices = correlation_matrices(columns.to_numpy().T, weights, "spearman")
    found = interval(np.abs(matrices[:, 0, 1]) - np.abs(matrices[:, 0, 2]))
    # shared/reference/README.md: exact cluster bootstrap (5⁵) of |ρ_JS| − |ρ_cos|
    assert exact
    assert found.resamples == 3125
    assert (round(found.low, 3), round(found.high, 3)) == (-0.117, 0.299)
    # the resample of five comedians has no leakage
    assert found.note.startswith("1 of 3,125 resamples dropped")
