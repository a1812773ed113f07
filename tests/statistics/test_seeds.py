"""Training seeds in the bootstrap: drawn within sources, without effect if there is one, never counted as sources."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from persona_assets.statistics.dyads import Dyads, read_dyads
from persona_assets.statistics.families.sample import JS, Sample, Settings
from persona_assets.statistics.replies import replies_at, with_seeds
from persona_assets.statistics.seeds import seed_versions
from tests.statistics.made_replies import made_study

Floats = np.ndarray
SETTINGS = Settings(permutations=100, resamples=400, seed=3)


@pytest.fixture(scope="module")
def table(make_pair_table: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_pair_table(personas=7, sources=4)


def study(table: pd.DataFrame, seeds: int, outcome: str = "log_prob_gain") -> Dyads:
    pair_table, by_reply = made_study(table, seeds=seeds)
    dyads = read_dyads(pair_table, outcome)
    return with_seeds(dyads, replies_at(by_reply, dyads))


def rho(matrices: Floats) -> Floats:
    return np.asarray(matrices[:, 0, 1])


@pytest.mark.parametrize("way", ["sources", "two-way"])
def test_with_one_seed_the_bootstrap_is_what_it_was(way: str, table: pd.DataFrame) -> None:
    one = study(table, 1)
    assert one.by_seed is None
    known = Sample(one, (JS,), SETTINGS)
    single = Sample(replace(one, by_seed=one.outcome[:, None]), (JS,), SETTINGS)
    np.testing.assert_array_equal(single.resampled(way, "spearman"), known.resampled(way, "spearman"))
    assert single.bootstrap(way, "spearman", rho) == known.bootstrap(way, "spearman", rho)


def test_the_outcome_of_a_dyad_is_the_mean_over_its_seeds(table: pd.DataFrame) -> None:
    dyads = study(table, 3)
    assert dyads.by_seed is not None
    assert dyads.by_seed.shape == (dyads.n, 3)
    np.testing.assert_allclose(dyads.by_seed.mean(axis=1), dyads.outcome, rtol=1e-12)


def test_a_resample_is_a_mean_over_seeds_that_were_drawn_with_replacement(table: pd.DataFrame) -> None:
    dyads = study(table, 2)
    versions = seed_versions(dyads, seed=1)
    assert versions is not None
    of_first = np.flatnonzero(versions.dyad == 0)
    first, second = dyads.by_seed[0]
    np.testing.assert_allclose(sorted(versions.outcome[of_first]), sorted([first, (first + second) / 2, second]))
    for _, rows, share in versions.sources:
        np.testing.assert_allclose(share, [0.25, 0.5, 0.25])
        assert len({tuple(dyads.source[versions.dyad[own]]) for own in rows}) == 1


def test_every_source_is_drawn_as_often_as_without_seeds(table: pd.DataFrame) -> None:
    dyads = study(table, 3)
    sample = Sample(dyads, (JS,), SETTINGS)
    values, weights = sample.drawn("sources")
    assert values.shape[1] == weights.shape[1] == 10 * dyads.n
    versions = seed_versions(dyads, SETTINGS.seed)
    assert versions is not None
    of_dyad = np.stack([weights[:, versions.dyad == place].sum(axis=1) for place in range(dyads.n)], axis=1)
    np.testing.assert_array_equal(of_dyad, sample.weights("sources"))


def test_the_bootstrap_equals_one_that_draws_sources_and_seeds_by_hand(table: pd.DataFrame) -> None:
    dyads = study(table, 2)
    assert dyads.by_seed is not None
    rng = np.random.default_rng(0)
    sources = [np.flatnonzero(dyads.source == source) for source in dyads.sources]
    x, by_hand = dyads.at(JS), []
    for _ in range(4000):
        rows, values = [], []
        for place in rng.integers(len(sources), size=len(sources)):
            seeds = rng.integers(2, size=2)
            rows.append(sources[place])
            values.append(dyads.by_seed[sources[place]][:, seeds].mean(axis=1))
        by_hand.append(np.corrcoef(x[np.concatenate(rows)], np.concatenate(values))[0, 1])
    drawn = rho(Sample(dyads, (JS,), replace(SETTINGS, resamples=4000)).resampled("sources", "pearson"))
    # all 4^4 resamples of the sources occur equally often in `drawn`
    np.testing.assert_allclose(drawn.mean(), np.mean(by_hand), atol=0.02)
    np.testing.assert_allclose(drawn.std(), np.std(by_hand), rtol=0.12)


def test_seeds_that_disagree_widen_the_interval(table: pd.DataFrame) -> None:
    dyads = study(table, 2)
    sign = np.where(dyads.source % 2, 1.0, -1.0)
    apart = dyads.outcome[:, None] + np.array([2.0, -2.0]) * sign[:, None]
    calm, wild = (
        Sample(replace(dyads, by_seed=by_seed), (JS,), SETTINGS).bootstrap("sources", "spearman", rho)
        for by_seed in (np.tile(dyads.outcome[:, None], 2), apart)
    )
    assert wild.high - wild.low > 1.2 * (calm.high - calm.low)
    assert wild.method.endswith("resamples, training seeds drawn within each source")


def test_the_seed_of_a_bootstrap_with_training_seeds_is_reported(table: pd.DataFrame) -> None:
    one, three = (Sample(study(table, seeds), (JS,), SETTINGS) for seeds in (1, 3))
    assert (one.seed_of("sources"), three.seed_of("sources")) == (None, SETTINGS.seed)


def test_many_seeds_are_drawn_at_random_and_keep_the_outcome_on_average(table: pd.DataFrame) -> None:
    dyads = study(table, 2)
    many = dyads.outcome[:, None] + np.random.default_rng(0).normal(size=(dyads.n, 12))
    versions = seed_versions(replace(dyads, by_seed=many), seed=1)
    assert versions is not None
    for _, rows, share in versions.sources:
        of_dyads = versions.outcome[rows]
        np.testing.assert_allclose(share @ of_dyads, dyads.outcome[versions.dyad[rows[0]]], rtol=1e-9)


def test_a_source_with_fewer_seeds_has_fewer_versions(table: pd.DataFrame) -> None:
    dyads = study(table, 3)
    assert dyads.by_seed is not None
    fewer = dyads.by_seed.copy()
    fewer[dyads.source == dyads.sources[0], 1:] = np.nan
    versions = seed_versions(replace(dyads, by_seed=fewer), seed=1)
    assert versions is not None
    assert [len(share) for _, _, share in versions.sources] == [1, 10, 10, 10]
    unshifted = versions.sources[0][1]
    np.testing.assert_allclose(versions.outcome[unshifted[0]], dyads.outcome[versions.dyad[unshifted[0]]])


def test_leaving_dyads_out_leaves_their_seeds_out(table: pd.DataFrame) -> None:
    dyads = study(table, 2)
    assert dyads.by_seed is not None
    kept = dyads.source != dyads.sources[0]
    left = dyads.keep(kept)
    np.testing.assert_array_equal(left.by_seed, dyads.by_seed[kept])


def test_versions_are_all_multisets_of_seeds_with_their_probabilities(table: pd.DataFrame) -> None:
    dyads = study(table, 3)
    versions = seed_versions(dyads, seed=1)
    assert versions is not None
    assert dyads.by_seed is not None
    _, rows, share = versions.sources[0]
    draws = [np.mean(dyads.by_seed[0][list(draw)]) for draw in product(range(3), repeat=3)]
    values, counts = np.unique(np.round(draws, 9), return_counts=True)
    order = np.argsort(versions.outcome[rows[:, 0]])
    np.testing.assert_allclose(versions.outcome[rows[:, 0]][order], values, atol=1e-8)
    np.testing.assert_allclose(share[order], counts / 27)
