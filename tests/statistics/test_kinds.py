"""Rank correlation within kinds of personas, with labels permuted within kinds."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.dyads import Dyads, read_dyads
from persona_assets.statistics.families.inputs import Inputs
from persona_assets.statistics.families.kinds import DIFFERENCE, PAIRS, WITHIN, kinds, labelled
from persona_assets.statistics.families.sample import Settings
from persona_assets.statistics.kinds import (
    dyad_cells,
    inverted,
    kind_permutations,
    pair_cells,
    pairs_within_kinds,
    require_distinct,
    within_kinds,
)
from persona_assets.statistics.labels import label_permutations
from persona_assets.statistics.permutation import permuted_correlations, two_sided
from persona_assets.statistics.statement import PValue, Statement, UnanswerableError, tabulate

Floats = NDArray[np.float64]
THREE_AND_THREE = ("odd", "even", "odd", "even", "odd", "even")


def make_dyads(kinds: tuple[str, ...], sources: int, seed: int = 0, **changes: Floats) -> Dyads:
    rng = np.random.default_rng(seed)
    personas = len(kinds)
    source, target = np.divmod(np.arange(sources * personas), personas)
    source, target = source[source != target], target[source != target]
    matrices = {name: rng.normal(size=(personas, personas)) for name in ("js", "cosine")}
    for matrix in matrices.values():
        np.fill_diagonal(matrix, np.nan)
    unknown = np.full(len(source), np.nan)
    names = tuple(f"p{number}" for number in range(personas))
    outcome = matrices["js"][source, target] + rng.normal(size=len(source))
    return Dyads(names, source, target, changes.get("outcome", outcome), unknown, unknown, matrices, kinds)


def residual_correlation(x: Floats, y: Floats, cell: NDArray[np.int64]) -> float:
    """Compute it from a regression of ranks on one column per cell."""
    dummies = np.eye(cell.max() + 1)[cell]
    left = [ranks - dummies @ np.linalg.lstsq(dummies, ranks, rcond=None)[0] for ranks in (x, stats.rankdata(y))]
    return float(np.corrcoef(*left)[0, 1])


def test_the_estimate_is_the_partial_spearman_correlation_given_the_pair_of_kinds() -> None:
    dyads = make_dyads(THREE_AND_THREE, sources=6)
    perms = kind_permutations(dyads, ["js"], 100, seed=0)
    expected = residual_correlation(stats.rankdata(dyads.at("js")), dyads.outcome, dyad_cells(dyads))
    assert within_kinds(dyads, "js", perms)[0] == pytest.approx(expected, abs=1e-12)


def test_p_is_that_of_all_relabellings_within_kinds() -> None:
    dyads = make_dyads(THREE_AND_THREE, sources=4)
    perms = kind_permutations(dyads, ["js"], 100, seed=0)
    assert (perms.exact, perms.count) == (True, 36)
    off = ~np.eye(6, dtype=bool)
    ranks = np.zeros((6, 6))
    ranks[off] = stats.rankdata(dyads.predictors["js"][off])
    cell, samples = dyad_cells(dyads), []
    for odd in itertools.permutations([0, 2, 4]):
        for even in itertools.permutations([1, 3, 5]):
            place = np.array([odd[0], even[0], odd[1], even[1], odd[2], even[2]])
            samples.append(residual_correlation(ranks[place[dyads.source], place[dyads.target]], dyads.outcome, cell))
    found = within_kinds(dyads, "js", perms)
    np.testing.assert_allclose(np.sort(found), np.sort(samples), atol=1e-12)
    expected = np.mean(np.abs(samples) >= abs(samples[0]) - 1e-12)
    assert two_sided(found, perms).p == pytest.approx(expected, abs=1e-12)


def test_what_kinds_leak_to_each_other_does_not_count() -> None:
    dyads = make_dyads(THREE_AND_THREE, sources=6)
    cell = dyad_cells(dyads)
    perms = kind_permutations(dyads, ["js"], 100, seed=0)
    first, second = (
        within_kinds(replace(dyads, outcome=dyads.outcome + 1000.0 * np.array(order)[cell]), "js", perms)
        for order in ([0, 1, 2, 3], [2, 3, 1, 0])
    )
    np.testing.assert_allclose(first, second, atol=1e-12)


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("fisher", [True, False])
def test_the_interval_excludes_0_exactly_if_p_is_at_most_alpha(fisher: bool, level: float) -> None:
    rejected = []
    for seed in range(40):
        dyads = make_dyads(THREE_AND_THREE, sources=3, seed=seed)
        perms = kind_permutations(dyads, ["js"], 100, seed=0)
        samples = within_kinds(dyads, "js", perms)
        interval = inverted(samples, level, perms, fisher)
        assert interval.low <= samples[0] <= interval.high
        rejected.append(two_sided(samples, perms).p <= 1 - level + 1e-12)
        assert (interval.low > 0 or interval.high < 0) == rejected[-1]
    assert 0 < sum(rejected) < len(rejected)


def test_holds_its_level_where_relabelling_everyone_does_not() -> None:
    rng, kind = np.random.default_rng(3), np.arange(12) % 3
    names = tuple(str(number) for number in kind)
    rejected = []
    for seed in range(200):
        places = rng.normal(size=(3, 3))[kind] + 0.3 * rng.normal(size=(12, 3))
        js = np.linalg.norm(places[:, None] - places, axis=-1)
        np.fill_diagonal(js, np.nan)
        dyads = make_dyads(names, sources=12, seed=seed)
        block = rng.normal(size=(3, 3))[kind[dyads.source], kind[dyads.target]]
        effects = rng.normal(size=12)[dyads.source] + rng.normal(0, 0.5, 12)[dyads.target]
        outcome = block + effects + rng.normal(0, 0.5, dyads.n)
        dyads = replace(dyads, outcome=outcome, predictors={"js": js})
        inside, everyone = kind_permutations(dyads, ["js"], 99, seed), label_permutations(12, 99, seed)
        p = [
            two_sided(within_kinds(dyads, "js", inside), inside).p,
            two_sided(permuted_correlations(dyads, ["js"], "spearman", everyone)[:, 0], everyone).p,
        ]
        rejected.append(np.array(p) <= 0.05)
    within, among_all = np.mean(rejected, axis=0)
    assert within < 0.09  # 5 % of 200 is at most this with probability 99 %
    assert among_all > 0.15


def test_pairs_are_compared_within_unordered_pairs_of_kinds() -> None:
    rng = np.random.default_rng(1)
    names, (first, second) = ("a", "b", "a", "b", "a", "b"), np.triu_indices(6, k=1)
    cells = pair_cells(names, first, second)
    assert cells.max() == 2  # a–a, a–b, b–b
    x, y = (np.asarray(np.corrcoef(rng.normal(size=(6, 4)))) for _ in range(2))  # symmetric up to rounding
    perms = kind_permutations(replace(make_dyads(names, sources=6), predictors={"x": x}), ["x"], 100, seed=0)
    found = pairs_within_kinds(x, y, names, perms)
    ranks = stats.rankdata(x[first, second])
    assert found[0] == pytest.approx(residual_correlation(ranks, y[first, second], cells), abs=1e-12)
    assert len(found) == 36
    y[0, 1] = np.nan
    with pytest.raises(UnanswerableError, match="1 of 15 pairs are unknown"):
        pairs_within_kinds(x, y, names, perms)


def test_too_few_relabellings_are_reported_instead_of_p() -> None:
    dyads = make_dyads(("a", "a", "b", "b", "c", "c"), sources=3)
    with pytest.raises(UnanswerableError, match=r"3 kinds can exchange labels within their kind in 8 ways; p ≤ 0\.05"):
        kind_permutations(dyads, ["js"], 100, seed=0)
    assert kind_permutations(dyads, ["js"], 100, seed=0, level=0.8).count == 8


def test_relabellings_that_coincide_are_reported_instead_of_p() -> None:
    dyads = make_dyads(THREE_AND_THREE, sources=6)
    perms = kind_permutations(dyads, ["js"], 100, seed=0)
    with pytest.raises(UnanswerableError, match=r"the smallest possible p is 0\.5, above 0\.05"):
        require_distinct(np.tile([0.3, -0.1], 18), perms, 0.95)
    require_distinct(np.array([0.9, *np.linspace(-0.5, 0.5, 35)]), perms, 0.95)


def test_a_predictor_of_sources_only_is_relabelled_among_sources_and_others_apart() -> None:
    dyads = make_dyads(("a",) * 4 + ("b",) * 4 + ("a",) * 4, sources=4)
    matrices = {name: matrix.copy() for name, matrix in dyads.predictors.items()}
    matrices["cosine"][4:, 4:] = np.nan
    known_of_sources = replace(dyads, predictors=matrices)
    perms = kind_permutations(known_of_sources, ["js", "cosine"], 300, seed=0)
    assert perms.structure == "labels exchangeable within 2 kinds of personas, sources and others apart"
    assert np.isfinite(within_kinds(known_of_sources, "cosine", perms)).all()
    assert set(perms.places[:, :4].ravel()) == {0, 1, 2, 3}
    matrices["cosine"][0, 5] = np.nan
    with pytest.raises(UnanswerableError, match="cosine is unknown in"):
        kind_permutations(replace(dyads, predictors=matrices), ["js", "cosine"], 300, seed=0)


def test_an_outcome_that_only_differs_between_kinds_has_no_correlation_within_them() -> None:
    dyads = make_dyads(THREE_AND_THREE, sources=6)
    constant = replace(dyads, outcome=dyad_cells(dyads).astype(float))
    perms = kind_permutations(dyads, ["js"], 100, seed=0)
    with pytest.raises(UnanswerableError, match="the outcome does not vary within any of the 4 pairs of kinds"):
        within_kinds(constant, "js", perms)


@pytest.fixture(scope="module")
def asked(make_pair_table: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    def ask(categories: Callable[[str], str]) -> pd.DataFrame:
        table = make_pair_table()
        sides = {f"{side}_category": table[side].map(categories) for side in ("source", "target")}
        inputs = Inputs(
            dyads=read_dyads(table.assign(**sides)),
            baseline="assistant",
            settings=Settings(permutations=100, resamples=50),
            primary="cosine_study_layer9",
            by_question=None,
            generators=(),
        )
        return tabulate(kinds(inputs)).set_index("quantity")

    return ask


def test_statements_within_kinds_are_about_js_the_primary_cosine_and_their_difference(
    asked: Callable[..., pd.DataFrame],
) -> None:
    rows = asked(lambda name: "odd" if name[-1] in "1357" else "even")
    assert rows.index.tolist() == [WITHIN, WITHIN, DIFFERENCE, PAIRS]
    assert rows["predictor"].tolist() == [
        "js",
        "cosine_study_layer9",
        "js − cosine_study_layer9",
        "cosine_study_layer9",
    ]
    assert set(rows["view"]) == {"dyadic"}
    assert rows["note"].str.contains("not computed").sum() == 0
    js, cosine = rows["estimate"].tolist()[:2]
    assert js < -0.3
    assert rows.loc[DIFFERENCE, "estimate"] == pytest.approx(abs(js) - abs(cosine), abs=1e-12)
    assert (rows["low"] < rows["estimate"]).all()
    assert (rows["estimate"] < rows["high"]).all()


@pytest.mark.parametrize("categories", [lambda name: "all", lambda name: name], ids=["one kind", "all different"])
def test_studies_without_kinds_have_no_such_statements(
    asked: Callable[..., pd.DataFrame], categories: Callable[[str], str]
) -> None:
    assert asked(categories).empty


def test_a_design_that_cannot_answer_says_why(asked: Callable[..., pd.DataFrame]) -> None:
    rows = asked(lambda name: "first" if name in ("persona_0", "persona_1") else name)
    assert rows["estimate"].isna().all()
    assert rows["note"].str.startswith("not computed: the personas of 8 kinds can exchange labels").all()


def test_tests_that_do_not_hold_their_level_with_kinds_say_so(make_pair_table: Callable[..., pd.DataFrame]) -> None:
    dyads = read_dyads(make_pair_table())
    inputs = Inputs(dyads=dyads, baseline="assistant", settings=Settings(), primary="", by_question=None, generators=())

    def row(method: str) -> Statement:
        p = PValue(p=0.01, smallest=0.0, method=method, structure="", reference="")
        return Statement(family="leakage", quantity="spearman", view="dyadic", p=p, note="first")

    rows = [row("QAP, all 120 permutations"), row("MRQAP, of ranks"), row("t test"), row("Mantel test, spearman")]
    said = [row.note for row in labelled(inputs, rows)]
    assert [note.startswith("first; if kinds of personas shape both measures") for note in said] == [1, 1, 0, 1]
    assert said[2] == "first"
    alone = replace(inputs, dyads=replace(dyads, categories=("all",) * 9))
    assert labelled(alone, rows) == rows
