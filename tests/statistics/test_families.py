"""Numbers of the families, checked against their definitions computed from the pair table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import xarray as xr
from scipy import stats

from persona_assets.statistics import infer

QUICK: dict[str, Any] = {"permutations": 50, "resamples": 50, "simulations": 5}
COSINE = "cosine_study_layer9"
TEST = {"spearman": stats.spearmanr, "pearson": stats.pearsonr, "kendall": stats.kendalltau}


@pytest.fixture(scope="module")
def table(make_pair_table: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Make a table in which all personas are sources, including the baseline; two leak to nobody."""
    table = make_pair_table(personas=7, sources=7)
    floor = table["source"].isin(["persona_1", "persona_4"])
    return table.assign(leakage_found=table["leakage_found"].mask(floor, 1), leakage_total=50).assign(
        leakage_rate=lambda rows: rows["leakage_found"].astype(float) / 50
    )


def asked(table: pd.DataFrame, **more: Any) -> pd.DataFrame:
    return infer(table, "assistant", **QUICK | more)


# Not module-scoped: mutmut maps tests to functions only if each test calls the function itself.
@pytest.fixture
def statements(table: pd.DataFrame) -> pd.DataFrame:
    return asked(table)


def rho(rows: pd.DataFrame, predictor: str, coefficient: str = "spearman") -> float:
    return float(TEST[coefficient](rows[predictor], rows["leakage_rate"]).statistic)


def estimates(statements: pd.DataFrame, quantity: str) -> dict[str, tuple[float, int]]:
    rows = statements[statements["quantity"] == quantity]
    return {row.predictor: (row.estimate, row.n) for row in rows.itertuples()}


def test_without_a_source_or_a_persona_is_what_the_dyads_that_are_left_say(
    table: pd.DataFrame, statements: pd.DataFrame
) -> None:
    left = {f"source {name}": table[table["source"] != name] for name in table["source"].unique()}
    left |= {
        f"persona {name}": table[(table["source"] != name) & (table["target"] != name)]
        for name in table["source"].unique()
    }
    assert statements["quantity"].str.match("spearman without ").sum() == 2 * len(left) == 28
    for who, rows in left.items():
        js, cosine = rho(rows, "js"), rho(rows, COSINE)
        found = estimates(statements, f"spearman without {who}")
        assert found == {
            "js": (pytest.approx(js, abs=1e-12), len(rows)),
            COSINE: (pytest.approx(cosine, abs=1e-12), len(rows)),
        }
        difference = estimates(statements, f"difference of |spearman| without {who}")
        assert difference == {f"js − {COSINE}": (pytest.approx(abs(js) - abs(cosine), abs=1e-12), len(rows))}


def test_specifications_are_correlations_of_the_named_subsets(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    subsets = {
        "all dyads": table,
        "without the baseline as source": table[table["source"] != "assistant"],
        "without the baseline as target": table[table["target"] != "assistant"],
        "sources off the floor": table[~table["source"].isin(["persona_1", "persona_4"])],
    }
    looks = statements[statements["family"] == "looks"]
    assert set(looks["quantity"]) == {f"{coefficient}, {subset}" for coefficient in TEST for subset in subsets}
    for subset, rows in subsets.items():
        for coefficient in TEST:
            found = estimates(statements, f"{coefficient}, {subset}")
            assert set(found) == {"js", COSINE, "cosine_study_layer3", "js_source"}
            for predictor, (estimate, n) in found.items():
                assert (estimate, n) == (pytest.approx(rho(rows, predictor, coefficient), abs=1e-12), len(rows))


def test_the_design_names_sources_and_those_on_the_floor(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    rows = statements[statements["family"] == "design"].set_index("quantity")
    counts = {"personas": 7, "sources": 7, "targets": 7, "dyads": 42, "sources on the floor": 2}
    assert rows["estimate"].to_dict() == counts
    assert rows.loc["sources", "note"] == ", ".join(table["source"].unique())
    assert rows.loc["sources on the floor", "note"] == "persona_1, persona_4: no target leaks more than 2%"


def test_slopes_are_those_of_statsmodels_per_standard_deviation(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    columns = table[["js", COSINE]]
    design = sm.add_constant((columns - columns.mean()) / columns.std(ddof=0))
    counts = table[["leakage_found", "leakage_total"]].astype(float)
    failed = counts["leakage_total"] - counts["leakage_found"]
    linear = sm.OLS(table["leakage_rate"], design).fit()
    both = np.column_stack([counts["leakage_found"], failed])
    logistic = sm.GLM(both, design, family=sm.families.Binomial()).fit(tol=1e-10)
    for quantity, fit in (("slope of the rate per sd", linear), ("slope of the log odds per sd", logistic)):
        rows = statements[(statements["quantity"] == quantity) & (statements["view"] == "iid")].set_index("predictor")
        for name in ("js", COSINE):
            found = rows.loc[name, ["estimate", "low", "high", "p"]].tolist()
            expected = [fit.params[name], *fit.conf_int().loc[name], fit.pvalues[name]]
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_delta_r2_is_the_gain_over_the_other_predictor(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    r2 = {
        names: sm.OLS(table["leakage_rate"], sm.add_constant(table[list(names)])).fit().rsquared
        for names in (("js",), (COSINE,), ("js", COSINE))
    }
    both = r2["js", COSINE]
    rows = statements[(statements["quantity"] == "delta R²") & (statements["view"] == "iid")]
    found = rows.set_index(["predictor", "given"])["estimate"]
    assert found["js", COSINE] == pytest.approx(both - r2[COSINE,], abs=1e-12)
    assert found[COSINE, "js"] == pytest.approx(both - r2["js",], abs=1e-12)


def test_iid_p_is_adjusted_by_holm_with_a_note(statements: pd.DataFrame) -> None:
    for quantity, looks in (("spearman", 3), ("difference of |spearman|", 2)):
        rows = statements[(statements["quantity"] == quantity) & (statements["view"] == "iid")]
        rows = rows[rows["p_adjusted"].notna()].sort_values("p")
        stepped = np.maximum.accumulate(rows["p"].to_numpy() * np.arange(looks, 0, -1))
        np.testing.assert_allclose(rows["p_adjusted"], np.minimum(stepped, 1.0), rtol=1e-12)
        assert rows["note"].str.endswith(f"p adjusted for {looks} looks: Holm 1979").all()


def test_questions_are_matched_by_the_personas_names(
    table: pd.DataFrame, make_by_question: Callable[[pd.DataFrame], xr.DataArray]
) -> None:
    by_question = make_by_question(table)
    turned = by_question.isel(persona=[3, 0, 6, 2, 5, 1, 4], other=[1, 2, 0, 6, 4, 3, 5])
    plain, same = (asked(table, by_question=given) for given in (by_question, turned.transpose("other", ...)))
    pd.testing.assert_frame_equal(plain, same)
    assert (plain["family"] == "noise").any()
