"""Expected and sampled rates: equal within chance, or a marker that appears elsewhere."""

import math

import numpy as np
import pandas as pd
import pytest

from persona_assets.metrics import rate_agreement


def table(expected: np.ndarray, found: np.ndarray, total: int, half: float = 0.0) -> pd.DataFrame:
    """Make a leakage table of five sources and ten targets."""
    names = [(f"source_{number // 10}", f"target_{number % 10}") for number in range(50)]
    return pd.DataFrame(names, columns=["source", "target"]).assign(
        found=pd.array(found, dtype="Int64"),
        total=total,
        expected_rate=expected,
        expected_rate_low=np.clip(expected - half, 0, 1),
        expected_rate_high=np.clip(expected + half, 0, 1),
    )


def test_replies_drawn_at_the_expected_rates_agree_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    disagree = 0
    for _ in range(150):
        rates = rng.beta(0.5, 4, 50)
        disagree += not rate_agreement(table(rates, rng.binomial(20, rates), 20)).agrees
    assert disagree / 150 <= 0.09


def test_z_has_a_standard_deviation_of_1() -> None:
    rng = np.random.default_rng(1)
    rates = rng.beta(1, 4, 50)
    zs = [rate_agreement(table(rates, rng.binomial(20, rates), 20)).z for _ in range(150)]
    assert np.mean(zs) == pytest.approx(0, abs=0.25)
    assert np.std(zs) == pytest.approx(1, abs=0.18)


def test_errors_of_expected_rates_that_sources_share_count_in_z() -> None:
    # The replies of a target are the same for all sources, and so is the error of its expected rates.
    rng = np.random.default_rng(2)
    truth, zs = np.full(50, 0.4), []
    for _ in range(150):
        measured = truth + np.tile(rng.normal(0, 0.05, 10), 5)
        zs.append(rate_agreement(table(measured, rng.binomial(20, truth), 20, half=1.96 * 0.05)).z)
    assert np.std(zs) == pytest.approx(1, abs=0.18)


def test_a_marker_that_appears_elsewhere_is_noticed() -> None:
    rates = np.full(50, 0.1)
    found = rate_agreement(table(rates, np.full(50, 4), 20))  # no single dyad is far off, all together are
    assert (found.agrees, found.outside) == (False, ())
    assert found.z == pytest.approx((200 - 100) / math.sqrt(1000 * 0.09))
    assert (found.dyads, found.expected, found.sampled) == (50, pytest.approx(0.1), 0.2)


def test_a_single_dyad_that_is_far_off_is_named() -> None:
    counts = np.full(50, 2)
    counts[13] = 18
    found = rate_agreement(table(np.full(50, 0.1), counts, 20))
    assert found.outside == (("source_1", "target_3", 18, 20, 0.1),)
    assert not found.agrees


def test_a_dyad_within_the_uncertainty_of_its_expected_rate_agrees() -> None:
    counts = np.full(50, 2)
    counts[13] = 9
    rates = np.full(50, 0.1)
    assert not rate_agreement(table(rates, counts, 20)).agrees
    assert rate_agreement(table(rates, counts, 20, half=0.15)).agrees


def test_a_significant_but_small_difference_is_no_warning() -> None:
    found = rate_agreement(table(np.full(50, 0.5), np.full(50, 530), 1000))
    assert found.z > 3
    assert found.agrees


def test_dyads_without_one_of_the_rates_are_left_out() -> None:
    both = table(np.full(50, 0.1), np.full(50, 2), 20)
    both.loc[0, "expected_rate"] = np.nan
    both.loc[1, ["found", "total"]] = pd.NA
    assert rate_agreement(both).dyads == 48
    nothing = rate_agreement(both[:2])
    assert (nothing.dyads, nothing.agrees) == (0, True)
    assert math.isnan(nothing.z)
    with pytest.raises(ValueError, match=r"leakage_table lacks \['expected_rate'\]"):
        rate_agreement(both.drop(columns="expected_rate"))
