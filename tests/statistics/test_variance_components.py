"""Variance components: known ones are found, on balanced data they are those of the analysis of variance."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

from persona_assets.statistics.statement import UnanswerableError
from persona_assets.statistics.variance_components import EFFECTS, RESIDUAL, variance_components

SD = dict(zip([*EFFECTS, RESIDUAL], (1.0, 0.7, 0.6, 0.5, 0.4, 0.3, 0.5, 0.8), strict=True))


def design(sources: int, targets: int, seeds: int, questions: int, replies: int) -> pd.DataFrame:
    """Return the rows of a study in which a source is no target of itself."""
    cells = product(range(sources), range(targets), range(seeds), range(questions), range(replies))
    table = pd.DataFrame(cells, columns=["source", "target", "seed", "question", "reply"])
    return table[table["source"] != table["target"]].reset_index(drop=True)


def with_values(table: pd.DataFrame, rng: np.random.Generator, scale: float = 1.0) -> pd.DataFrame:
    value = 3.0 + SD[RESIDUAL] * rng.normal(size=len(table))
    for name, columns in EFFECTS.items():
        level = table.groupby(list(columns)).ngroup().to_numpy()
        value = value + SD[name] * rng.normal(size=level.max() + 1)[level]
    return table.assign(value=scale * value)


def test_known_components_are_found_on_average() -> None:
    rng = np.random.default_rng(0)
    table = design(6, 8, 3, 4, 2)
    found = pd.DataFrame([dict(variance_components(with_values(table, rng)).variance) for _ in range(60)])
    error = found.std() / np.sqrt(len(found))
    expected = pd.Series(SD) ** 2
    assert list(found) == [*EFFECTS, RESIDUAL]
    # estimates below 0 are reported as 0, which is rare at this size
    assert ((found.mean() - expected).abs() < 3.5 * error).all()


def test_balanced_components_are_those_of_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    y = (
        rng.normal(size=(5, 1, 1))
        + rng.normal(size=(1, 7, 1))
        + rng.normal(size=(5, 7, 1))
        + rng.normal(size=(5, 7, 3))
    )
    source, target, _ = np.indices(y.shape)
    table = pd.DataFrame({"source": source.ravel(), "target": target.ravel(), "value": y.ravel()})
    effects = {name: EFFECTS[name] for name in ("source", "target", "source × target")}
    found = variance_components(table, effects).variance
    rows, columns, cells = y.mean((1, 2)), y.mean((0, 2)), y.mean(2)
    residual = ((y - cells[..., None]) ** 2).sum() / (5 * 7 * 2)
    both = 3 * ((cells - rows[:, None] - columns + y.mean()) ** 2).sum() / (4 * 6)
    of_rows, of_columns = 7 * 3 * rows.var(ddof=1), 5 * 3 * columns.var(ddof=1)
    expected = [(of_rows - both) / 21, (of_columns - both) / 15, (both - residual) / 3, residual]
    np.testing.assert_allclose(list(found.values()), expected, rtol=1e-9)


def test_components_do_not_depend_on_the_level_and_scale_with_the_square() -> None:
    table = design(4, 5, 2, 3, 2)
    one, ten = (variance_components(with_values(table, np.random.default_rng(2), scale)).variance for scale in (1, 10))
    shifted = with_values(table, np.random.default_rng(2))
    shifted = variance_components(shifted.assign(value=shifted["value"] + 1e4)).variance
    for name, value in one.items():
        assert ten[name] == pytest.approx(100 * value, rel=1e-6, abs=1e-9)
        assert shifted[name] == pytest.approx(value, rel=1e-6, abs=1e-6)


def test_effects_that_the_data_do_not_tell_apart_are_named() -> None:
    one_seed = with_values(design(4, 5, 1, 3, 1), np.random.default_rng(3))
    found = variance_components(one_seed)
    assert dict(found.confounded) == {"seed": "source", "seed × target": "source × target"}
    assert found.levels["source × target"] == 16
    assert found.levels[RESIDUAL] == len(one_seed)
    assert found.total == pytest.approx(sum(found.variance.values()))


def test_a_negative_estimate_is_reported_as_0_and_named() -> None:
    rng = np.random.default_rng(5)
    table = design(4, 6, 1, 4, 1)
    value = rng.normal(size=len(table))
    value -= table.assign(value=value).groupby("question")["value"].transform("mean").to_numpy()
    found = variance_components(table.assign(value=value))
    assert "question" in found.below_zero
    assert found.variance["question"] == 0.0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table[table["source"] < 2], "there are 2 sources; variance components need at least 3"),
        (lambda table: table[table["target"] > 3], "there are 2 targets; variance components need at least 3"),
        (lambda table: table.assign(value=1.0), "the outcome is the same in every reply"),
    ],
)
def test_data_without_components_are_refused(change, why: str) -> None:
    table = with_values(design(4, 6, 1, 3, 2), np.random.default_rng(4))
    with pytest.raises(UnanswerableError, match=why):
        variance_components(change(table))
