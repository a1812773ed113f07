"""All statements of a pair table: each in two views, each with a number or a reason."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from persona_assets.metrics import build_pair_table, divergence_matrix, imported_leakage_table, read_marker_eval
from persona_assets.published.run import read_published_run
from persona_assets.statistics import COLUMNS, infer, verdict

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "qwen2.5-7b-instruct"
QUICK: dict[str, Any] = {"permutations": 200, "resamples": 200, "simulations": 20}
TWICE = ["leakage", "comparison", "models", "pairs", "coupling"]
COSINE = "cosine_study_layer9"
MakePairTable = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def table(make_pair_table: MakePairTable) -> pd.DataFrame:
    return make_pair_table()


@pytest.fixture(scope="module")
def by_question(table: pd.DataFrame, make_by_question: Callable[[pd.DataFrame], xr.DataArray]) -> xr.DataArray:
    return make_by_question(table)


@pytest.fixture(scope="module")
def heard() -> list[str]:
    """Collect the messages of `progress` while `statements` is computed."""
    return []


@pytest.fixture(scope="module")
def statements(table: pd.DataFrame, by_question: xr.DataArray, heard: list[str]) -> pd.DataFrame:
    return infer(table, "assistant", by_question=by_question, progress=heard.append, **QUICK)


@pytest.fixture(scope="module")
def gapped(table: pd.DataFrame) -> pd.DataFrame:
    """Make a table without seven dyads, and with one cosine that is known only for pairs with a source."""
    sources = set(table.loc[table["leakage_rate"].notna(), "source"])
    away = ~(table["source"].isin(sources) | table["target"].isin(sources))
    missing = table.index.isin(table.index[table["leakage_rate"].notna()][[0, 5, 11, 17, 23, 29, 31]])
    outcome = ["leakage_found", "leakage_total", "leakage_rate"]
    return table.assign(
        cosine_study_layer3=table["cosine_study_layer3"].mask(away),
        **{name: table[name].mask(missing) for name in outcome},
    )


@pytest.fixture(scope="module")
def with_gaps(gapped: pd.DataFrame) -> pd.DataFrame:
    return infer(gapped, "assistant", **QUICK)


def one(statements: pd.DataFrame, name: str, view: str = "dyadic") -> pd.Series:
    rows = statements[(statements["name"] == name) & (statements["view"] == view)]
    assert len(rows) == 1, f"{name}, {view}: {len(rows)} rows"
    return rows.iloc[0]


def test_the_table_has_the_documented_columns(statements: pd.DataFrame) -> None:
    assert statements.dtypes.astype(str).to_dict() == COLUMNS
    assert set(statements["view"]) == {"iid", "dyadic", "check"}
    assert list(dict.fromkeys(statements["family"])) == [
        "design",
        *TWICE,
        "kinds",
        "negatives",
        "noise",
        "influence",
        "looks",
        "power",
    ]


def test_a_name_a_view_and_a_method_are_one_row(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows in (statements, with_gaps):
        assert not rows.duplicated(["name", "view", "method"]).any()


def test_every_statement_has_an_iid_and_a_dyadic_row(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows in (statements, with_gaps):
        twice = rows[rows["family"].isin(TWICE) & (rows["view"] != "check")]
        counts = twice.groupby(["name", "view"]).size().unstack()
        assert len(counts) > 50
        assert (counts == 1).to_numpy().all()


def test_a_number_or_a_reason(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows in (statements, with_gaps):
        silent = ~np.isfinite(rows["estimate"]) & ~rows["note"].str.startswith("not computed: ")
        assert rows.loc[silent, "name"].tolist() == []
        answered = rows[np.isfinite(rows["estimate"]) & (rows["view"] != "check") & (rows["family"] != "design")]
        assert (answered["low"].notna() | answered["p"].notna()).all()
        assert (answered["method"].str.len() > 0).all()
        assert (answered["structure"].str.len() > 0).all()
        assert (answered["reference"].str.len() > 0).all()


def test_intervals_contain_their_estimates(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows in (statements, with_gaps):
        known = rows[rows["low"].notna()]
        assert (known["level"] == 0.95).all()
        assert (known["low"] <= known["high"]).all()
        drawn = known["method"].str.contains("bootstrap|percentiles")
        plain = known[~drawn]
        assert len(plain) > 40
        assert (plain["low"] <= plain["estimate"]).all()
        assert (plain["estimate"] <= plain["high"]).all()


def test_p_is_between_its_smallest_value_and_1(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows in (statements, with_gaps):
        known = rows[rows["p"].notna()]
        assert (known["p"] >= known["smallest_p"]).all()
        assert (known["p"] <= 1).all()
        relabelled = known["method"].str.contains("QAP")
        assert (known.loc[relabelled, "smallest_p"] > 0).all()


def test_adjusted_p_is_never_smaller_and_names_its_method(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows in (statements, with_gaps):
        adjusted = rows[rows["p_adjusted"].notna()]
        # three correlations and two differences, in both views
        assert len(adjusted) == 10
        assert (adjusted["p_adjusted"] >= adjusted["p"]).all()
        assert adjusted.loc[adjusted["view"] == "iid", "note"].str.contains("looks: Holm 1979").all()
        assert adjusted.loc[adjusted["view"] == "dyadic", "note"].str.contains("looks: Westfall & Young 1993").all()


def test_the_same_seed_gives_the_same_table_bit_for_bit(
    table: pd.DataFrame, by_question: xr.DataArray, statements: pd.DataFrame
) -> None:
    again = infer(table, "assistant", by_question=by_question, **QUICK)
    pd.testing.assert_frame_equal(again, statements, check_exact=True)


def by_name(statements: pd.DataFrame) -> pd.DataFrame:
    """Return the values that do not depend on the seed, by name and view."""
    rows = statements[statements["family"].isin([*TWICE, "influence", "looks"])]
    return rows.drop_duplicates(["name", "view"]).set_index(["name", "view"]).sort_index()


def test_the_order_of_rows_does_not_change_an_estimate(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    shuffled = infer(table.sample(frac=1, random_state=3), "assistant", **QUICK)
    found, expected = by_name(shuffled), by_name(statements)
    assert found.index.equals(expected.index)
    np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=1e-4, atol=1e-9)


def test_iid_statements_do_not_depend_on_the_names_and_order_of_personas(
    table: pd.DataFrame, statements: pd.DataFrame
) -> None:
    names = {name: f"renamed_{number}" for number, name in enumerate(sorted(set(table["source"])))}
    renamed = table.replace({"source": names, "target": names})[::-1].reset_index(drop=True)
    found, expected = (
        by_name(rows).xs("iid", level="view") for rows in (infer(renamed, names["assistant"], **QUICK), statements)
    )
    assert found.index.equals(expected.index)
    np.testing.assert_allclose(found[["estimate", "p"]], expected[["estimate", "p"]], rtol=1e-6, atol=1e-12)
    certain = expected["seed"].isna()
    assert certain.sum() > 30
    limits = ["low", "high"]
    np.testing.assert_allclose(found.loc[certain, limits], expected.loc[certain, limits], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("asked", "found"),
    [({"layer": 5}, "population None, layer 5"), ({"population": "others"}, "population 'others', layer None")],
)
def test_the_error_for_an_unknown_cosine_lists_the_known_ones(
    asked: dict[str, Any], found: str, table: pd.DataFrame
) -> None:
    with pytest.raises(ValueError, match=rf"^statistics: found {found}; expected one of study: layers 3, 9$"):
        infer(table, "assistant", **asked)
    without = table.drop(columns=["cosine_study_layer3", COSINE])
    with pytest.raises(ValueError, match=rf"^statistics: found {found}; expected no population or layer, because the"):
        infer(without, "assistant", **asked)


def test_the_verdict_is_about_the_requested_cosine(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    assert "cosine (layer 9, centred on study)" in verdict(statements).words  # the middle layer; the later one of two
    rows = infer(table, "assistant", population="study", layer=3, **QUICK)
    assert "cosine (layer 3, centred on study)" in verdict(rows).words
    assert set(rows.loc[rows["family"] == "power", "predictor"]) == {"js − cosine_study_layer3"}


def test_missing_dyads_reduce_n_and_are_reported(statements: pd.DataFrame, with_gaps: pd.DataFrame) -> None:
    for rows, dyads in ((statements, 40), (with_gaps, 33)):
        about = rows["family"].isin(["leakage", "comparison"])
        assert set(rows.loc[about, "n"]) == {dyads}
        assert one(rows, "dyads", "check")["estimate"] == dyads
    assert one(with_gaps, "sources", "check")["estimate"] == 5


def test_a_cosine_known_only_for_sources_is_relabelled_within_two_blocks(with_gaps: pd.DataFrame) -> None:
    name = "spearman: leakage_rate ~ {}"
    partly, fully = (one(with_gaps, name.format(cosine)) for cosine in ("cosine_study_layer3", COSINE))
    assert "labels exchangeable among the 5 sources and among the 4 others" in partly["structure"]
    assert "labels exchangeable among the 9 personas" in fully["structure"]
    assert partly["smallest_p"] == 1 / (120 * 24)
    pairs = one(with_gaps, "spearman over pairs: js ~ cosine_study_layer3")
    assert pairs["note"].startswith("not computed: only 30 of 36 pairs are known")


def test_a_constant_cosine_does_not_affect_the_other_predictors(table: pd.DataFrame, statements: pd.DataFrame) -> None:
    flat = infer(table.assign(cosine_study_layer3=0.5), "assistant", **QUICK)
    for name in ("spearman: leakage_rate ~ js", f"difference of |spearman|: leakage_rate ~ js − {COSINE}"):
        numbers = ["estimate", "low", "high", "p"]
        assert one(flat, name)[numbers].tolist() == one(statements, name)[numbers].tolist()
    why = one(flat, "spearman: leakage_rate ~ cosine_study_layer3")["note"]
    assert why == "not computed: cosine_study_layer3 is the same in every dyad"


def test_a_name_means_one_thing(statements: pd.DataFrame) -> None:
    # JS with a cosine over all pairs, and over the personas paired with the baseline, are different statements
    of = statements.groupby("name")["family"].nunique()
    assert of[of > 1].index.tolist() == []


def test_progress_is_reported_for_every_family(statements: pd.DataFrame, heard: list[str]) -> None:
    told = [text.partition(":")[0] for text in heard]
    assert told[:3] == ["correlations", "comparisons", "partial correlations"]
    assert told[-3:] == ["influence", "specifications", "power"]
    rows = sum(int(text.partition(": ")[2].split(" ")[0]) for text in heard)
    assert rows == len(statements) - (statements["family"] == "design").sum()


def test_power_uses_the_requested_number_of_simulations(statements: pd.DataFrame) -> None:
    rows = statements[(statements["family"] == "power") & statements["quantity"].str.startswith("power with")]
    assert rows["n"].tolist()[:2] == [5, 10]
    np.testing.assert_allclose(rows["estimate"] * 20, (rows["estimate"] * 20).round(), atol=1e-9)


@pytest.fixture(scope="module")
def published() -> pd.DataFrame:
    if not REFERENCE.is_dir():
        pytest.skip(f"the published run is not there: {REFERENCE}")
    run = read_published_run(REFERENCE, "assistant")
    categories = {name: str(persona["category"]) for name, persona in run.personas.items()}
    matrix = divergence_matrix(run.logit_js, "all", resamples=100, seed=42, level=0.95)
    counts = read_marker_eval(run.marker_eval, run.personas)
    leakage = imported_leakage_table(counts, categories, {}, "published")
    pair_table = build_pair_table(matrix, run.cosine, categories, leakage)
    settings = QUICK | {"permutations": 3000}
    by_question, rates = matrix.js_by_question, run.source_rates
    return infer(pair_table, "assistant", by_question=by_question, source_rates=rates, **settings)


def test_dyadic_inference_on_the_published_run_matches_the_reference(published: pd.DataFrame) -> None:
    # shared/reference/README.md, "What careful inference says of the same data"
    js, cosine = (one(published, f"spearman: leakage_rate ~ {name}") for name in ("js", "cosine_study_layer20"))
    assert [round(row["estimate"], 4) for row in (js, cosine)] == [-0.7456, 0.5674]
    assert js["p"] < 0.005
    assert cosine["p"] < 0.003
    difference = one(published, "difference of |spearman|: leakage_rate ~ js − cosine_study_layer20")
    assert [round(difference[limit], 3) for limit in ("low", "high")] == [-0.117, 0.299]
    assert "cluster bootstrap over 5 sources, all 3,125 resamples" in difference["method"]
    assert 0.25 < difference["p"] < 0.35
    other = one(published, "spearman: leakage_rate ~ cosine_111_personas_layer20")
    assert round(other["estimate"], 3) == 0.763


def test_delta_r2_of_js_and_cosine_in_the_published_run(published: pd.DataFrame) -> None:
    added = {"js": "cosine_study_layer20", "cosine_study_layer20": "js"}
    rows = [one(published, f"delta R²: leakage_rate ~ {name} | {given}", "iid") for name, given in added.items()]
    assert [round(row["estimate"], 4) for row in rows] == [0.1218, 0.0415]
    assert rows[0]["note"] == "R² 0.3996 → 0.5214, F(1, 47) = 11.96"


def test_the_verdict_on_the_published_run(published: pd.DataFrame) -> None:
    words = verdict(published).words
    assert words.startswith(
        "JS and cosine (layer 20, centred on study) both predict leakage; these 5 sources cannot tell which is better "
        "(difference of |ρ| +0.18, 95% −0.12 to +0.30). "
    )
    assert "2 of 5 sources (villain, comedian) sit on the floor." in words
