"""Mantel and partial Mantel, against vegan."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.labels import label_permutations
from persona_assets.statistics.mantel import mantel, partial_mantel, persona_jackknife
from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.weighted import Coefficient

Floats = NDArray[np.float64]
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
ALL_720 = label_permutations(6, 1, seed=0)


@pytest.fixture(scope="module")
def in_vegan() -> dict[str, Any]:
    numbers: dict[str, Any] = json.loads((FIXTURES / "mantel.json").read_text())
    return numbers


@pytest.fixture(scope="module")
def measures() -> dict[str, Floats]:
    table = pd.read_csv(FIXTURES / "mantel.csv")
    return {name: symmetric(table[name].to_numpy()) for name in ("x", "y", "z")}


def symmetric(pairs: Floats, personas: int = 6) -> Floats:
    matrix = np.full((personas, personas), np.nan)
    above, below = np.triu_indices(personas, k=1)
    matrix[above, below] = matrix[below, above] = pairs
    return matrix


@pytest.mark.parametrize("coefficient", ["pearson", "spearman"])
def test_statistic_and_enumerated_p_are_vegans(
    in_vegan: dict[str, Any], measures: dict[str, Floats], coefficient: Coefficient
) -> None:
    x, y, z = measures.values()
    answers = {"mantel": mantel(x, y, coefficient, ALL_720), "partial": partial_mantel(x, y, z, coefficient, ALL_720)}
    for which, (estimate, p) in answers.items():
        assert estimate == pytest.approx(in_vegan[coefficient][which]["statistic"], abs=1e-12)
        assert p.p == pytest.approx(in_vegan[coefficient][which]["two_sided"], abs=1e-12)
        assert p.smallest == 1 / 720


def test_relabelling_one_measure_is_relabelling_the_other(measures: dict[str, Floats]) -> None:
    x, y, _ = measures.values()
    assert mantel(x, y, "spearman", ALL_720)[1].p == mantel(y, x, "spearman", ALL_720)[1].p


@pytest.mark.parametrize("given_z", [False, True])
def test_the_jackknife_leaves_out_one_persona_with_all_its_pairs(measures: dict[str, Floats], given_z: bool) -> None:
    x, y, z = measures.values()

    def correlation(places: list[int]) -> float:
        pairs = np.array([(i, j) for i in places for j in places if i < j]).T
        r = np.asarray(stats.spearmanr(np.stack([m[tuple(pairs)] for m in (x, y, z)], axis=1)).statistic)
        if not given_z:
            return float(r[0, 1])
        return float((r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2)))

    everyone = list(range(6))
    fisher = np.arctanh([correlation([k for k in everyone if k != left]) for left in everyone])
    half = stats.t.ppf(0.975, 5) * np.sqrt(5 / 6 * ((fisher - fisher.mean()) ** 2).sum())
    centre = np.arctanh(correlation(everyone))
    found = persona_jackknife(x, y, "spearman", 0.95, z if given_z else None)
    assert (found.low, found.high) == pytest.approx((np.tanh(centre - half), np.tanh(centre + half)), abs=1e-12)
    assert "t(5)" in found.method


def broken(measures: dict[str, Floats], fault: str) -> Floats:
    x = measures["x"].copy()
    if fault == "unknown":
        x[0, 1] = x[1, 0] = x[3, 5] = np.nan
    elif fault == "asymmetric":
        x[2, 4] += 0.1
    else:
        x[~np.isnan(x)] = 0.5
    return x


@pytest.mark.parametrize(
    ("fault", "because"),
    [
        ("unknown", "only 13 of 15 pairs are known"),
        ("asymmetric", "a measure is not symmetric"),
        ("constant", "a measure is 0.5 in all 15 pairs"),
    ],
)
def test_invalid_measures_over_pairs_are_rejected(measures: dict[str, Floats], fault: str, because: str) -> None:
    x, y, z = broken(measures, fault), measures["y"], measures["z"]
    for first, second in ((x, y), (y, x)):
        with pytest.raises(UnanswerableError, match=because):
            mantel(first, second, "pearson", ALL_720)
        with pytest.raises(UnanswerableError, match=because):
            persona_jackknife(first, second, "pearson", 0.95)
    for three in ((x, y, z), (y, x, z), (y, z, x)):
        with pytest.raises(UnanswerableError, match=because):
            partial_mantel(*three, "pearson", ALL_720)


def test_three_personas_are_too_few() -> None:
    three = label_permutations(3, 1, seed=0)
    x, y = symmetric(np.array([1.0, 2, 3]), 3), symmetric(np.array([3.0, 1, 2]), 3)
    with pytest.raises(UnanswerableError, match="there are 3 pairs; a correlation needs at least 4"):
        mantel(x, y, "spearman", three)


def test_a_control_measure_that_determines_another_is_rejected(measures: dict[str, Floats]) -> None:
    x, y, _ = measures.values()
    for z in (1 - 2 * x, 3 * y):
        with pytest.raises(UnanswerableError, match="determines one of the other two"):
            partial_mantel(x, y, z, "pearson", ALL_720)
        with pytest.raises(UnanswerableError, match="is undefined"):
            persona_jackknife(x, y, "pearson", 0.95, given=z)
