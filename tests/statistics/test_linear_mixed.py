"""The linear mixed model agrees with statsmodels, keeps its level and refuses what it cannot fit."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from persona_assets.statistics.linear_mixed import linear_mixed
from persona_assets.statistics.statement import UnanswerableError


def made(slope: float, seed: int = 0, sources: int = 5, targets: int = 11) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    source, target = (side.ravel() for side in np.indices((sources, targets)))
    source, target = source[source != target], target[source != target]
    place = rng.normal(size=(targets, 3))
    x = np.linalg.norm(place[source] - place[target], axis=1)
    effects = rng.normal(size=sources)[source] + 0.6 * rng.normal(size=targets)[target]
    return slope * (x - x.mean()) / x.std() + effects + 0.7 * rng.normal(size=len(x)), x, source, target


def test_the_fit_is_that_of_statsmodels() -> None:
    import statsmodels.formula.api as smf

    y, x, source, target = made(0.5)
    found = linear_mixed(y, {"js": x}, source, target)
    table = pd.DataFrame({"y": y, "z": (x - x.mean()) / x.std(), "source": source, "target": target, "all": 1})
    effects = {"source": "0 + C(source)", "target": "0 + C(target)"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = smf.mixedlm("y ~ z", table, groups="all", re_formula="0", vc_formula=effects).fit(reml=True)
    assert found.slopes["js"] == pytest.approx(fit.params["z"], rel=1e-4)
    assert found.intercept == pytest.approx(fit.params["Intercept"], rel=1e-3)
    assert found.log_likelihood == pytest.approx(fit.llf, abs=1e-4)
    assert found.sigma_dyad**2 == pytest.approx(fit.scale, rel=1e-3)
    assert [found.sigma_source**2, found.sigma_target**2] == pytest.approx(list(fit.vcomp), rel=1e-2)


def test_the_standard_error_is_that_of_generalised_least_squares() -> None:
    y, x, source, target = made(0.5)
    found = linear_mixed(y, {"js": x}, source, target)
    variance = (
        found.sigma_source**2 * (source[:, None] == source)
        + found.sigma_target**2 * (target[:, None] == target)
        + found.sigma_dyad**2 * np.eye(len(y))
    )
    columns = np.column_stack([np.ones(len(y)), (x - x.mean()) / x.std()])
    precision = np.linalg.solve(variance, columns)
    covariance = np.linalg.inv(columns.T @ precision)
    assert found.slopes["js"] == pytest.approx((covariance @ precision.T @ y)[1], rel=1e-6)
    half = found.intervals["js"].high - found.slopes["js"]
    df = 50 - 1 - (5 - 1) - (11 - 1) - 1
    assert half == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(covariance[1, 1]), rel=1e-6)


def test_a_slope_that_exists_is_found_and_its_p_matches_its_interval() -> None:
    found = linear_mixed(*_arguments(made(1.5)))
    assert found.intervals["js"].low > 0
    assert found.p["js"].p < 0.01
    nothing = linear_mixed(*_arguments(made(0.0)))
    assert (nothing.p["js"].p > 0.05) == (nothing.intervals["js"].low < 0 < nothing.intervals["js"].high)


def test_effects_without_variance_are_named() -> None:
    _, x, source, target = made(0.0)
    y = np.random.default_rng(8).normal(size=len(x))
    y -= pd.Series(y).groupby(source).transform("mean").to_numpy()
    found = linear_mixed(y, {"js": x}, source, target)
    assert found.sigma_source == pytest.approx(0.0, abs=1e-3)
    assert "the fit is singular: the variance of source" in found.note


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda y, x, s, t: (y, {"js": x}, np.minimum(s, 1), t), "there are 2 sources or targets"),
        (lambda y, x, s, t: (y, {"js": x * 0 + 1}, s, t), "js is the same in every dyad"),
        (lambda y, x, s, t: (y * np.nan, {"js": x}, s, t), "the outcome is missing in 50 of 50 dyads"),
        (lambda y, x, s, t: (y, {"js": x, "cosine": -x}, s, t), "js, cosine are exactly collinear"),
        (lambda y, x, s, t: (y[:9], {"js": x[:9]}, np.repeat([0, 1, 2], 3), t[:9]), "leave no degrees of freedom"),
    ],
)
def test_data_that_cannot_be_fitted_are_refused(change, why: str) -> None:
    with pytest.raises(UnanswerableError, match=why):
        linear_mixed(*change(*made(0.5)))


def _arguments(study: tuple[np.ndarray, ...]) -> tuple:
    y, x, source, target = study
    return y, {"js": x}, source, target
