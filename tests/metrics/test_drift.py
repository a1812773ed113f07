"""Drift: changes between checkpoints are separated from the effect of the choice of questions."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import spearmanr
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from persona_assets.metrics import (
    Drift,
    bootstrap_over_questions,
    build_leakage_table,
    cosine_dataset,
    measure_drift,
)
from persona_assets.metrics.drift import _spearman
from persona_assets.metrics.drift_questions import (
    MOST_EXACT_QUESTIONS,
    RANDOM_PATTERNS,
    distance,
    percentile_interval,
    question_weights,
    simultaneous_half_width,
)

PERSONAS = ["villain", "assistant", "comedian", "librarian", "chef"]
PAIRS = list(itertools.combinations(PERSONAS, 2))
RESAMPLES = 400


def questions(count: int) -> list[str]:
    return [f"question {place}" for place in range(count)]


def js(seed: int, count: int = 20, shift: float = 0.0, personas: Sequence[str] = PERSONAS) -> xr.DataArray:
    """Make the JS of one checkpoint: a question effect shared by all checkpoints plus its own noise (`seed`)."""
    size = len(personas)
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    values = 0.1 + 0.05 * shared.random((count, size, size)) + 0.005 * own.standard_normal((count, size, size))
    upper = np.triu(values, 1)
    upper[:, 0, 1] += shift
    return xr.DataArray(
        upper + upper.swapaxes(1, 2),
        dims=("question", "persona", "other"),
        coords={"question": questions(count), "persona": list(personas), "other": list(personas)},
    )


def cosine(seed: int, count: int = 20, turned: float = 0.0) -> xr.Dataset:
    """Make the cosines of one checkpoint; `turned` moves the chef towards the villain."""
    shared, own = np.random.default_rng(7), np.random.default_rng(seed)
    places = shared.standard_normal((len(PERSONAS), 1, 2, 32))
    places[4] += turned * places[0]
    states = places + 0.3 * shared.standard_normal((1, count, 2, 32))
    states = states + 0.3 * own.standard_normal((len(PERSONAS), count, 2, 32))
    each = {
        name: xr.Dataset(
            {"state": (("question", "layer", "hidden"), of), "centroid": (("layer", "hidden"), of.mean(0))},
            coords={"question": questions(count), "layer": [3, 9]},
        )
        for name, of in zip(PERSONAS, states, strict=True)
    }
    return cosine_dataset(each, {"study": PERSONAS, "few": PERSONAS[:3]})


def leakage(found: int, own: int = 18, base: int | None = 0) -> pd.DataFrame:
    """Make counts of the villain's marker in 20 replies of every other persona."""
    counts = pd.DataFrame({"target": PERSONAS, "found": [own, *[found] * 4], "total": 20})
    of_base = None if base is None else pd.DataFrame({"target": PERSONAS, "found": base, "total": 20})
    return build_leakage_table({"villain": counts}, of_base, dict.fromkeys(PERSONAS, "persona"), {}, "marker_only")


def series(*names: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "checkpoint": names,
            "series": "run",
            "step": [8.0 * place for place in range(len(names))],
            "previous": [None, *names[:-1]],
        }
    )


def drift(
    of_js: dict[str, xr.DataArray],
    of_cosine: dict[str, xr.Dataset] | None = None,
    of_leakage: dict[str, pd.DataFrame] | None = None,
) -> Drift:
    return measure_drift(series(*of_js), of_js, of_cosine or {}, of_leakage or {}, RESAMPLES, seed=3)


def at(table: pd.DataFrame, **where: str) -> pd.DataFrame:
    return table.loc[np.logical_and.reduce([table[column] == value for column, value in where.items()])]


def test_the_tables_have_the_columns_that_they_promise() -> None:
    found = drift({"a": js(1), "b": js(2)}, {"a": cosine(1), "b": cosine(2)}, {"a": leakage(1), "b": leakage(5)})
    text, number = "str", "float64"
    assert found.levels.dtypes.astype(str).to_dict() == {
        "checkpoint": text,
        "series": text,
        "step": number,
        **dict.fromkeys(("quantity", "a", "b"), text),
        **dict.fromkeys(("estimate", "low", "high"), number),
    }
    assert found.changes.dtypes.astype(str).to_dict() == {
        **dict.fromkeys(("checkpoint", "previous", "quantity", "a", "b"), text),
        **dict.fromkeys(("change", "low", "high", "simultaneous_low", "simultaneous_high"), number),
        "moved": "bool",
    }
    assert found.distances.dtypes.astype(str).to_dict() == {
        **dict.fromkeys(("checkpoint", "previous", "quantity"), text),
        **dict.fromkeys(("pairs", "questions"), "int64"),
        **dict.fromkeys(("rms_change", "noise", "excess", "rank_correlation", "p", "smallest_p"), number),
        "exact": "bool",
    }
    cosines = [f"cosine_{population}_layer{layer}" for population in ("study", "few") for layer in (3, 9)]
    rates = ["source_rate", "leakage_rate", "mean_leakage_rate", "base_rate"]
    assert list(dict.fromkeys(found.levels.quantity)) == ["js", *cosines, *rates]
    assert list(dict.fromkeys(found.changes.quantity)) == ["js", *cosines, *rates]
    assert found.distances.quantity.tolist() == ["js", *cosines]
    assert found.levels.set_index("checkpoint").step.to_dict() == {"a": 0.0, "b": 8.0}


def test_levels_of_js_are_the_matrix_and_its_intervals() -> None:
    values = js(1)
    found = drift({"a": values}).levels
    # Equal values for all generators have that value as their mean.
    every = values.expand_dims(generator=PERSONAS)
    low, high = bootstrap_over_questions(every, "all", RESAMPLES, seed=3)
    assert list(zip(found.a, found.b, strict=True)) == PAIRS
    for row in found.to_dict("records"):
        pair = {"persona": row["a"], "other": row["b"]}
        assert row["estimate"] == pytest.approx(float(values.sel(pair).mean()), rel=1e-13)
        assert row["low"] == pytest.approx(float(low.sel(pair)), rel=1e-12)
        assert row["high"] == pytest.approx(float(high.sel(pair)), rel=1e-12)


def test_levels_of_a_cosine_are_the_matrix_with_the_spread_of_its_pseudovalues() -> None:
    dataset = cosine(1)
    found = at(drift({"a": js(1)}, {"a": dataset}).levels, quantity="cosine_study_layer9")
    chosen = dataset.sel(population="study", layer=9)
    weights = question_weights(20, RESAMPLES, seed=3)
    for row in found.to_dict("records"):
        pair = {"persona": row["a"], "other": row["b"]}
        assert row["estimate"] == float(chosen.cosine.sel(pair))
        pseudovalues = chosen.cosine_by_question.sel(pair).values
        spread = np.quantile(weights @ (pseudovalues - pseudovalues.mean()), [0.025, 0.975])
        np.testing.assert_allclose([row["low"], row["high"]], row["estimate"] + spread, atol=1e-12)
        assert row["low"] < row["estimate"] < row["high"]


def test_an_identical_checkpoint_did_not_move() -> None:
    found = drift({"a": js(1), "b": js(1)}, {"a": cosine(1), "b": cosine(1)}, {"a": leakage(3), "b": leakage(3)})
    assert (found.changes.change == 0).all()
    assert not found.changes.moved.any()
    of_questions = found.changes[~found.changes.quantity.str.endswith("_rate")]
    assert (of_questions[["low", "high", "simultaneous_low", "simultaneous_high"]] == 0).all(axis=None)
    assert (found.distances[["rms_change", "noise", "excess"]] == 0).all(axis=None)
    np.testing.assert_allclose(found.distances[["rank_correlation", "p"]], 1.0)


def test_a_change_is_resampled_with_both_checkpoints_on_the_same_questions() -> None:
    before, after = js(1), js(2)
    row = drift({"a": before, "b": after}).changes.iloc[3]
    pair = {"persona": row.a, "other": row.b}
    weights = question_weights(20, RESAMPLES, seed=3)
    of_question = (after - before).sel(pair).values
    np.testing.assert_allclose([row.low, row.high], np.quantile(weights @ of_question, [0.025, 0.975]), atol=1e-15)
    alone = [np.subtract(*np.quantile(weights @ of.sel(pair).values, [0.975, 0.025])) for of in (before, after)]
    assert row.high - row.low < min(alone)  # questions vary more than consecutive checkpoints


def test_only_the_shifted_pair_is_reported_as_moved() -> None:
    changes = drift({"a": js(1), "b": js(2, shift=0.02)}).changes
    moved = changes[changes.moved]
    assert list(zip(moved.a, moved.b, strict=True)) == [("villain", "assistant")]
    assert moved.simultaneous_low.item() > 0
    assert moved.simultaneous_low.item() < moved.low.item() < moved.change.item() < moved.high.item()


def test_a_persona_that_turned_has_moved_cosines() -> None:
    found = drift({"a": js(1), "b": js(1)}, {"a": cosine(1), "b": cosine(2, turned=1.0)})
    changes = at(found.changes, quantity="cosine_study_layer3", a="villain", b="chef")
    assert changes.moved.item()
    assert changes.change.item() > 0.3
    distances = at(found.distances, quantity="cosine_study_layer3")
    assert distances.p.item() < 0.001
    assert distances.excess.item() > 0.9 * distances.rms_change.item()


def test_questions_and_personas_are_matched_by_name() -> None:
    before, after, of_before, of_after = js(1), js(2, shift=0.02), cosine(1), cosine(2)
    places = [3, 0, 4, 2, 1]
    shuffled = after.isel(question=slice(None, None, -1), persona=places, other=places[::-1])
    of_shuffled = of_after.isel(question=slice(None, None, -1), persona=places, other=places)
    plain = drift({"a": before, "b": after}, {"a": of_before, "b": of_after})
    same = drift({"a": before, "b": shuffled}, {"a": of_before, "b": of_shuffled})
    pd.testing.assert_frame_equal(plain.changes, same.changes, rtol=1e-9)
    pd.testing.assert_frame_equal(plain.distances, same.distances, rtol=1e-9)


def test_the_order_of_the_personas_changes_nothing_but_the_order_of_the_rows() -> None:
    def by_pair(table: pd.DataFrame) -> pd.DataFrame:
        pair = [" ".join(sorted(names)) for names in zip(table.a, table.b, strict=True)]
        return table.drop(columns=["a", "b"]).assign(pair=pair).sort_values(["quantity", "pair"], ignore_index=True)

    places = [3, 0, 4, 2, 1]
    inputs = {"a": js(1), "b": js(2, shift=0.02)}, {"a": cosine(1), "b": cosine(2)}
    turned = [{name: of.isel(persona=places, other=places) for name, of in each.items()} for each in inputs]
    plain, other = drift(*inputs), drift(*turned)
    for table in ("levels", "changes"):
        pd.testing.assert_frame_equal(by_pair(getattr(plain, table)), by_pair(getattr(other, table)), rtol=1e-9)
    pd.testing.assert_frame_equal(plain.distances, other.distances, rtol=1e-9)


def test_excess_is_the_mean_product_of_different_questions() -> None:
    changes = np.random.default_rng(5).standard_normal((7, 10)) + 0.6
    products = [
        float(np.mean(changes[first] * changes[second])) for first in range(7) for second in range(7) if first != second
    ]
    found = distance(changes, seed=0)
    assert found.excess**2 == pytest.approx(np.mean(products), rel=1e-12)
    assert found.rms_change**2 - found.noise**2 == pytest.approx(np.mean(products), rel=1e-12)
    assert (found.pairs, found.questions) == (10, 7)


def test_excess_of_pure_noise_is_0_half_of_the_time_and_noise_matches_the_rms_change() -> None:
    random = np.random.default_rng(11)
    found = [distance(random.standard_normal((8, 30)), seed=0) for _ in range(300)]
    assert np.mean([each.rms_change**2 - each.noise**2 for each in found]) == pytest.approx(0.0, abs=0.005)
    assert np.mean([each.noise**2 for each in found]) == pytest.approx(1 / 8, rel=0.03)
    assert 0.4 < np.mean([each.excess == 0 for each in found]) < 0.65


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_p_is_the_fraction_of_sign_patterns_at_least_as_extreme(count: int) -> None:
    changes = np.random.default_rng(count).standard_normal((count, 6)) + 0.4
    observed = np.mean(changes.mean(axis=0) ** 2)
    reached = [
        np.mean((np.array(signs)[:, None] * changes).mean(axis=0) ** 2) >= observed - 1e-12
        for signs in itertools.product((-1, 1), repeat=count)
    ]
    found = distance(changes, seed=0)
    assert found.exact
    assert found.p == pytest.approx(np.mean(reached))
    assert found.smallest_p == 2.0 ** (1 - count)


def test_many_questions_draw_patterns_and_count_the_observed_one() -> None:
    random = np.random.default_rng(2)
    strong = distance(random.standard_normal((MOST_EXACT_QUESTIONS + 5, 6)) + 3.0, seed=0)
    assert not strong.exact
    assert strong.p == strong.smallest_p == 1 / (RANDOM_PATTERNS + 1)
    weak = random.standard_normal((MOST_EXACT_QUESTIONS, 6)) + 0.15
    padded = np.vstack([weak, np.zeros((1, 6))])  # a question without a change changes no pattern's statistic
    assert distance(padded, seed=0).p == pytest.approx(distance(weak, seed=0).p, abs=0.01)


@pytest.mark.parametrize(("count", "most"), [(4, 0.02), (20, 0.075)])
def test_pure_noise_rarely_moves_any_of_ten_pairs(count: int, most: float) -> None:
    """Simulate 200 studies whose changes share personas, as for JS; at 5 %, 15 hits are 2 standard errors too many."""
    random = np.random.default_rng(17)
    first, second = np.triu_indices(5, 1)
    flagged = 0
    for study in range(200):
        of_persona = random.standard_normal((count, 5))
        changes = of_persona[:, first] + of_persona[:, second] + 0.5 * random.standard_normal((count, 10))
        half = simultaneous_half_width(changes, question_weights(count, RESAMPLES, study), 0.95)
        flagged += bool((np.abs(changes.mean(axis=0)) > half).any())
    assert flagged / 200 <= most


def test_a_clear_shift_is_nearly_always_found_with_twenty_questions() -> None:
    random = np.random.default_rng(23)
    found = 0
    for study in range(100):
        changes = random.standard_normal((20, 10))
        changes[:, 4] += 1.5
        half = simultaneous_half_width(changes, question_weights(20, RESAMPLES, study), 0.95)
        found += bool(np.abs(changes.mean(axis=0))[4] > half[4])
    assert found >= 90


def test_one_pair_gets_the_bootstrap_t_and_more_pairs_get_wider() -> None:
    changes = np.random.default_rng(31).standard_normal((12, 8))
    weights = question_weights(12, 999, seed=1)
    counts = np.rint(weights * 12).astype(int)
    places = np.arange(12)
    drawn = np.array([changes[np.repeat(places, count), 0] for count in counts])
    errors = drawn.std(axis=1, ddof=1) / np.sqrt(12)
    ratio = np.abs(drawn.mean(axis=1) - changes[:, 0].mean()) / (errors * np.sqrt(11 / 12) * np.sqrt(12 / 11))
    expected = np.quantile(ratio, 0.9, method="higher") * changes[:, 0].std(ddof=1) / np.sqrt(12)
    assert simultaneous_half_width(changes[:, :1], weights, 0.9)[0] == pytest.approx(expected, rel=1e-9)
    assert simultaneous_half_width(changes, weights, 0.9)[0] > expected


def test_pairs_processed_in_parts_form_one_family() -> None:
    changes = np.random.default_rng(41).standard_normal((6, 3000))
    weights = question_weights(6, 1500, seed=1)  # 1,500 × 3,000 numbers are processed in parts
    whole = simultaneous_half_width(changes, weights, 0.9) / (changes.std(axis=0, ddof=1) / np.sqrt(6))
    np.testing.assert_allclose(whole, whole[0])
    low, high = percentile_interval(changes, weights, 0.9)
    np.testing.assert_allclose(
        [low[2999], high[2999]], np.quantile(weights @ changes[:, 2999], [0.05, 0.95]), atol=1e-12
    )


@pytest.mark.parametrize("count", [2, 3])
def test_two_or_three_questions_have_no_finite_simultaneous_interval(count: int) -> None:
    changes = drift({"a": js(1, count), "b": js(2, count, shift=0.5)}).changes
    assert changes[["simultaneous_low", "simultaneous_high"]].isna().all(axis=None)
    assert not changes.moved.any()
    assert changes.low.notna().all()


def test_one_question_shows_levels_and_changes_without_intervals() -> None:
    found = drift({"a": js(1, 1), "b": js(2, 1)}, {"a": cosine(1, 1), "b": cosine(2, 1)})
    assert found.levels.estimate.notna().all()
    assert found.levels[["low", "high"]].isna().all(axis=None)
    assert found.changes.change.notna().all()
    assert found.changes[["low", "high", "simultaneous_low", "simultaneous_high"]].isna().all(axis=None)
    assert not found.changes.moved.any()
    of_js = at(found.distances, quantity="js").iloc[0]
    assert (of_js.questions, of_js.p, of_js.smallest_p, of_js.exact) == (1, 1.0, 1.0, True)
    assert found.distances[["noise", "excess"]].isna().all(axis=None)
    assert found.distances.rms_change.gt(0).all()


def test_a_cosine_without_its_questions_has_a_change_but_no_interval() -> None:
    imported = cosine(1).drop_vars(["cosine_by_question", "question"])
    found = drift({"a": js(1), "b": js(2)}, {"a": imported, "b": cosine(2)})
    changes = at(found.changes, quantity="cosine_few_layer3")
    assert changes.change.abs().gt(0).all()
    assert changes.low.isna().all()
    row = at(found.distances, quantity="cosine_few_layer3").iloc[0]
    assert (row.pairs, row.questions, row.exact) == (10, 0, False)
    assert row.rms_change == pytest.approx(np.sqrt(np.mean(changes.change**2)))
    assert np.isnan([row.noise, row.excess, row.p, row.smallest_p]).all()


def test_quantities_measured_at_only_one_checkpoint_are_not_compared() -> None:
    of_cosine = {"a": cosine(1), "b": cosine(2).sel(population=["study"], layer=[9])}
    found = drift({"a": js(1), "b": js(2), "c": js(3)}, of_cosine, {"b": leakage(3)})
    assert at(found.distances, checkpoint="b").quantity.tolist() == ["js", "cosine_study_layer9"]
    assert at(found.distances, checkpoint="c").quantity.tolist() == ["js"]
    assert set(found.changes.quantity) == {"js", "cosine_study_layer9"}
    assert set(at(found.levels, quantity="base_rate").checkpoint) == {"b"}


def test_a_quantity_missing_before_does_not_hide_later_ones() -> None:
    few = cosine(1).sel(population=["few"], layer=[9])  # the last of four cosines
    found = drift({"a": js(1), "b": js(2)}, {"a": few, "b": cosine(2)})
    assert found.distances.quantity.tolist() == ["js", "cosine_few_layer9"]


def test_drawn_patterns_depend_on_the_seed() -> None:
    before, after = js(1, count=MOST_EXACT_QUESTIONS + 1), js(2, count=MOST_EXACT_QUESTIONS + 1)
    changes = (after - before).to_numpy()[:, *np.triu_indices(5, 1)]
    found = drift({"a": before, "b": after}).distances.iloc[0]
    assert not found.exact
    assert 0.0 < found.p < 1.0
    assert found.p == distance(changes, seed=3).p
    assert found.p != distance(changes, seed=4).p


def test_the_rank_correlation_is_spearmans_over_pairs() -> None:
    before, after = js(1), js(2)
    i, j = np.triu_indices(5, 1)
    expected = spearmanr(before.mean("question").values[i, j], after.mean("question").values[i, j]).statistic
    assert drift({"a": before, "b": after}).distances.rank_correlation.item() == pytest.approx(expected)


def test_asymmetric_js_has_both_directions() -> None:
    after = js(2)
    after.loc[{"persona": "villain", "other": "chef"}] += 0.05
    found = drift({"a": js(1), "b": after})
    assert found.distances.pairs.item() == 20
    there, back = (at(found.changes, a=a, b=b).change.item() for a, b in (("villain", "chef"), ("chef", "villain")))
    assert there - back == pytest.approx(0.05)


def test_rates_have_wilson_intervals_and_named_quantities() -> None:
    levels = drift({"a": js(1)}, of_leakage={"a": leakage(3, own=18, base=1)}).levels
    rates = levels[levels.quantity.str.endswith("_rate")]
    assert list(zip(rates.quantity, rates.a, rates.b, rates.estimate.round(3), strict=True)) == [
        ("source_rate", "villain", "", 0.9),
        *(("leakage_rate", "villain", target, 0.15) for target in PERSONAS[1:]),
        ("mean_leakage_rate", "", "", 0.15),
        *(("base_rate", target, "", 0.05) for target in PERSONAS[1:]),
        ("base_rate", "villain", "", 0.05),  # the source's own base rate: it is nobody's target
    ]
    for quantity, (found, total) in {"source_rate": (18, 20), "mean_leakage_rate": (12, 80)}.items():
        row = at(rates, quantity=quantity).iloc[0]
        assert (row.low, row.high) == pytest.approx(proportion_confint(found, total, method="wilson"))


def test_a_changed_rate_has_newcombes_interval_and_a_bonferroni_test() -> None:
    found = drift({"a": js(1), "b": js(1)}, of_leakage={"a": leakage(1, own=10), "b": leakage(8, own=19)}).changes
    rows = at(found, quantity="leakage_rate")
    assert len(rows) == 4
    assert rows[["simultaneous_low", "simultaneous_high"]].isna().all(axis=None)
    expected = confint_proportions_2indep(8, 20, 1, 20, method="newcomb")
    np.testing.assert_allclose(rows[["low", "high"]], [expected] * 4, rtol=1e-6)
    np.testing.assert_allclose(rows.change, 0.35)
    corrected = confint_proportions_2indep(8, 20, 1, 20, method="newcomb", alpha=0.05 / 4)
    assert rows.moved.tolist() == [corrected[0] > 0] * 4
    assert at(found, quantity="source_rate").moved.item()


def test_a_rate_significant_alone_is_not_significant_among_four_dyads() -> None:
    found = drift({"a": js(1), "b": js(1)}, of_leakage={"a": leakage(1), "b": leakage(7)}).changes
    rows = at(found, quantity="leakage_rate")
    assert rows.low.min() > 0
    assert not rows.moved.any()


def test_leakage_without_base_columns_or_rows_gives_the_remaining_rates() -> None:
    found = drift({"a": js(1), "b": js(2)}, of_leakage={"a": leakage(1, base=None), "b": leakage(1)[:0]})
    assert set(found.levels.quantity) == {"js", "source_rate", "leakage_rate", "mean_leakage_rate"}
    assert set(found.changes.quantity) == {"js"}


def test_the_first_of_a_series_is_not_compared() -> None:
    alone = drift({"a": js(1)})
    assert alone.changes.empty
    assert alone.distances.empty
    assert len(alone.levels) == len(PAIRS)
    two_series = series("a", "b", "c").assign(series=["", "one", "two"], previous=[None, "a", "a"], step=np.nan)
    found = measure_drift(two_series, {name: js(place) for place, name in enumerate("abc")}, {}, {}, 50, 0)
    assert found.distances.previous.tolist() == ["a", "a"]


def test_other_questions_personas_or_populations_are_not_compared() -> None:
    with pytest.raises(
        ValueError, match=r"b, compared with a: js: questions differ: none only before, \['question 20'"
    ):
        drift({"a": js(1), "b": js(2, 23)})
    said = r"^b, compared with a: js: personas differ: \['chef'\] only before, \['pirate'\] only after"
    with pytest.raises(ValueError, match=said):
        drift({"a": js(1), "b": js(2, personas=[*PERSONAS[:4], "pirate"])})
    other = cosine(2).assign_attrs(population_few="villain, chef")
    with pytest.raises(
        ValueError,
        match=r"^b, compared with a: personas of the centring population few differ: \['assistant', 'comedian'\]",
    ):
        drift({"a": js(1), "b": js(2)}, {"a": cosine(1), "b": other})


def test_errors_for_invalid_tables_say_what_is_missing() -> None:
    given = {"a": js(1), "b": js(2)}
    table = series("a", "b")
    for wrong, message in (
        (table.drop(columns="step"), r"lack \['step'\]"),
        (table.assign(checkpoint="a"), r"\['a'\] appear twice"),
        (table.assign(checkpoint=["a", "z"]), r"\['z'\] have no JS"),
        (table.assign(previous=[None, "z"]), "checkpoint b: previous is z"),
    ):
        with pytest.raises(ValueError, match=message):
            measure_drift(wrong, given, {}, {}, RESAMPLES, 0)
    with pytest.raises(ValueError, match="resamples is 0"):
        measure_drift(table, given, {}, {}, 0, 0)
    with pytest.raises(ValueError, match="level is 95"):
        measure_drift(table, given, {}, {}, RESAMPLES, 0, level=95)
    with pytest.raises(ValueError, match=r"b: js_by_question: dims are .*expected \('question', 'persona', 'other'\)"):
        measure_drift(table, {**given, "b": js(2).rename(question="prompt")}, {}, {}, RESAMPLES, 0)
    twice = pd.concat([leakage(1), leakage(2)])
    with pytest.raises(ValueError, match="leakage_rate of villain → assistant has two counts"):
        drift(given, of_leakage={"a": twice})


@pytest.mark.parametrize("before", [[1.0, 1.0, 1.0, 1.0], [1.0, 2.0, np.nan, np.nan]], ids=["one value", "two pairs"])
def test_too_few_or_constant_values_have_no_rank_correlation(before: list[float]) -> None:
    after = np.array([0.1, 0.3, 0.2, 0.4])
    assert np.isnan(_spearman(np.array(before), after))
    assert np.isnan(_spearman(after, np.array(before)))
    assert _spearman(after, after**2) == pytest.approx(1.0)
