"""Trend curves, checked against statsmodels' fractional logistic regression and a jackknife computed by hand."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from scipy.special import expit, logit

from persona_assets.statistics import trend


def pair_table(sources: int, personas: int = 6, seed: int = 0, floor: int = 0) -> pd.DataFrame:
    """Make every dyad of the first personas as sources; the first `floor` sources leak to nobody."""
    random = np.random.default_rng(seed)
    names = [f"p{number}" for number in range(personas)]
    js = random.uniform(0.01, 0.1, (personas, personas))
    js = js + js.T
    rows = []
    for a, source in enumerate(names):
        for b, target in enumerate(names):
            if a == b:
                continue
            rate = float(expit(1.5 - 20 * js[a, b] + random.normal(0, 0.5))) if floor <= a < sources else 0.0
            rows.append((source, target, "x", "x", js[a, b], rate if a < sources else np.nan))
    return pd.DataFrame(rows, columns=["source", "target", "source_category", "target_category", "js", "leakage_rate"])


def fitted(dyads: pd.DataFrame, places: np.ndarray) -> np.ndarray:
    model = sm.GLM(dyads["leakage_rate"], sm.add_constant(dyads["js"]), family=sm.families.Binomial())
    return np.asarray(model.fit().predict(sm.add_constant(places)))


def test_the_curve_is_that_of_statsmodels() -> None:
    table = pair_table(4)
    curve = trend(table, ["js"])
    expected = fitted(table.dropna(subset="leakage_rate"), curve["place"].to_numpy())
    np.testing.assert_allclose(curve["rate"], expected, atol=1e-3)
    known = table.loc[table["leakage_rate"].notna(), "js"]
    assert curve["place"].iloc[[0, -1]].tolist() == [known.min(), known.max()]


def test_the_band_is_the_jackknife_of_the_log_odds_over_sources() -> None:
    table = pair_table(4)
    curve = trend(table, ["js"], level=0.9)
    dyads, places = table.dropna(subset="leakage_rate"), curve["place"].to_numpy()
    left_out = np.array([logit(fitted(dyads[dyads["source"] != name], places)) for name in ("p0", "p1", "p2", "p3")])
    error = np.sqrt(3 / 4 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    half = stats.t.ppf(0.95, 3) * error
    centre = logit(fitted(dyads, places))
    np.testing.assert_allclose(curve["low"], expit(centre - half), atol=3e-3)
    np.testing.assert_allclose(curve["high"], expit(centre + half), atol=3e-3)


def test_sources_that_leak_to_nobody_leave_a_finite_curve() -> None:
    curve = trend(pair_table(3, floor=2), ["js"])
    assert np.isfinite(curve[["rate", "low", "high"]].to_numpy()).all()
    assert (trend(pair_table(3, floor=3), ["js"])["rate"] < 1e-3).all()


def test_two_sources_have_a_curve_and_no_band() -> None:
    curve = trend(pair_table(2), ["js"])
    assert curve["rate"].notna().all()
    assert curve[["low", "high"]].isna().all(axis=None)


def test_a_constant_predictor_has_no_rows() -> None:
    table = pair_table(3).assign(cosine_study_layer3=0.5)
    assert trend(table, ["js", "cosine_study_layer3"])["predictor"].unique().tolist() == ["js"]
    assert trend(table, ["cosine_study_layer3"]).empty
    nothing = trend(table, []).dtypes.astype(str).to_dict()
    assert nothing == trend(table, ["js"]).dtypes.astype(str).to_dict()
    assert nothing == {"predictor": "str", **dict.fromkeys(("place", "rate", "low", "high"), "float64")}


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_a_higher_level_is_a_wider_band(level: float) -> None:
    curve, wider = trend(pair_table(4), ["js"], level=level), trend(pair_table(4), ["js"], level=level + 0.04)
    assert (curve["low"] > wider["low"]).all()
    assert (curve["high"] < wider["high"]).all()
