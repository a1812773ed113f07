"""Tests by relabelling for a batch of simulated studies at once.

All studies of a batch have the same design and the same relabellings. Predictors are ranked over all ordered pairs,
as the package does if every persona is a source; the package ranks them among the dyads otherwise.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.kind_studies import COSINE, JS, OTHER, OUTCOMES, Study
from persona_assets.statistics.kinds import dyad_cells, kind_permutations, pair_cells, within_kinds
from persona_assets.statistics.labels import LabelPermutations, label_permutations
from persona_assets.statistics.mrqap import permuted_t
from persona_assets.statistics.permutation import permuted_correlations

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RELABELLINGS = 99
PAIRS = "JS over pairs"


@dataclass(frozen=True, eq=False)
class Relabelled:
    """Statistics of a batch: (outcome, test) → (studies, R), the observed one first; NaN if it is undefined."""

    tests: dict[tuple[str, str], Floats]
    inside: LabelPermutations


def relabel(batch: list[Study], rng: np.random.Generator, check: bool) -> Relabelled:
    """Run all tests by relabelling on a batch of studies of one design; `check` compares one with the package's own."""
    first, seed = batch[0], int(rng.integers(2**31))
    everyone = label_permutations(len(first.kind), RELABELLINGS, seed, exact_up_to=0)
    inside = kind_permutations(first.dyads(2), (JS, COSINE), RELABELLINGS, seed, exact_up_to=0)
    outcomes = np.array([study.outcomes for study in batch])
    ranks = stats.rankdata(outcomes, axis=2)
    cell = dyad_cells(first.dyads(2))
    of_cells = _basis(np.eye(cell.max() + 1)[cell])
    level = np.full((len(cell), 1), len(cell) ** -0.5)
    matrices = {name: _ranked(batch, name) for name in (JS, COSINE)}
    ways = {"relabelled": everyone, "relabelled within kinds": inside}
    if (whole := whole_kinds(first.kind, rng)) is not None:
        ways["whole kinds and within"] = whole
    tests: dict[tuple[str, str], Floats] = {}
    for way, perms in ways.items():
        js, cosine = (_correlations(matrices[name], ranks, level, first, perms) for name in (JS, COSINE))
        for number, outcome in enumerate(OUTCOMES):
            tests[outcome, f"ρ, {way}"] = js[:, :, number]
            tests[outcome, f"difference of |ρ|, {way}"] = np.abs(js[:, :, number]) - np.abs(cosine[:, :, number])
    js, cosine = (_correlations(matrices[name], ranks, of_cells, first, inside) for name in (JS, COSINE))
    for number, outcome in enumerate(OUTCOMES):
        tests[outcome, "ρ within kinds"] = js[:, :, number]
        signed = [each[:, :, number] * np.sign(each[:, :1, number]) for each in (js, cosine)]
        tests[outcome, "difference of |ρ| within kinds"] = signed[0] - signed[1]
    for what, values in (("ranks", ranks), ("values", outcomes)):
        residuals, given = _without_cosine(batch, ranks=what == "ranks")
        for way, perms in (("", everyone), (" within kinds", inside)):
            beside = _correlations(residuals, values, given, first, perms)
            for number, outcome in enumerate(OUTCOMES):
                tests[outcome, f"JS beside cosine, MRQAP of {what}, relabelled{way}"] = beside[:, :, number]
    tests |= _over_pairs(batch, everyone, inside)
    if check:
        _require_package_agrees(first, tests, everyone, inside)
    return Relabelled(tests, inside)


def whole_kinds(kind: Ints, rng: np.random.Generator) -> LabelPermutations | None:
    """Return relabellings of whole kinds and within them, if all kinds have the same size; otherwise None."""
    kinds, sizes = np.unique(kind, return_counts=True)
    if len(set(sizes.tolist())) > 1:
        return None
    members = np.stack([np.flatnonzero(kind == number) for number in kinds])
    places = np.empty((1 + RELABELLINGS, len(kind)), dtype=np.int64)
    places[0] = np.arange(len(kind))
    for row in range(1, len(places)):
        places[row, members] = rng.permuted(members[rng.permutation(len(kinds))], axis=1)
    return LabelPermutations(places, False, RELABELLINGS, np.zeros(len(kind), dtype=np.int64), "")


def _ranked(batch: list[Study], name: str) -> Floats:
    """Return a predictor's ranks over all ordered pairs, centred, shape (studies, K, K); 0 on the diagonal."""
    off = ~np.eye(len(batch[0].kind), dtype=bool)
    ranked = np.zeros((len(batch), *off.shape))
    ranked[:, off] = stats.rankdata([study.matrices[name][off] for study in batch], axis=1)
    ranked[:, off] -= ranked[:, off].mean(axis=1, keepdims=True)
    return ranked


def _correlations(matrix: Floats, values: Floats, basis: Floats, like: Study, perms: LabelPermutations) -> Floats:
    """Return correlations with relabelled predictors after projecting out a basis, shape (studies, R, outcomes).

    Args:
        matrix: shape (studies, K, K).
        values: shape (studies, outcomes, n).
        basis: orthonormal columns, shape (n, b), or (studies, n, b).
    """
    rows = matrix[:, perms.places[:, like.source], perms.places[:, like.target]]
    left = values - (values @ basis) @ basis.swapaxes(-1, -2)
    squares = np.einsum("srn,srn->sr", rows, rows) - ((rows @ basis) ** 2).sum(axis=2)
    spread = (left**2).sum(axis=2)
    spread[spread < 1e-9 * (values**2).sum(axis=2)] = np.nan
    return np.asarray(rows @ left.swapaxes(1, 2) / np.sqrt(squares[:, :, None] * spread[:, None, :]))


def _without_cosine(batch: list[Study], ranks: bool) -> tuple[Floats, Floats]:
    """Return JS less its regression on the cosine over all pairs, (studies, K, K), and the basis of 1 and cosine.

    With `_correlations`, this is MRQAP with double semi-partialling.
    """
    first = batch[0]
    off = ~np.eye(len(first.kind), dtype=bool)
    x, z = (np.array([study.matrices[name][off] for study in batch]) for name in (JS, COSINE))
    if ranks:
        x, z = stats.rankdata(x, axis=1), stats.rankdata(z, axis=1)
    x, z = (each - each.mean(axis=1, keepdims=True) for each in (x, z))
    residuals, given = (np.zeros((len(batch), *off.shape)) for _ in range(2))
    residuals[:, off] = x - z * ((x * z).sum(axis=1) / (z**2).sum(axis=1))[:, None]
    given[:, off] = z
    at = given[:, first.source, first.target]
    return residuals, _basis(np.stack([np.ones_like(at), at], axis=2))


def _over_pairs(
    batch: list[Study], everyone: LabelPermutations, inside: LabelPermutations
) -> dict[tuple[str, str], Floats]:
    """Test JS against a measure that shares nothing with it but the kinds, over unordered pairs."""
    kind = batch[0].kind
    first, second = np.triu_indices(len(kind), k=1)
    like = Study(kind, first, second, {}, np.empty(0))
    off = _ranked(batch, OTHER)
    js = stats.rankdata([study.matrices[JS][first, second] for study in batch], axis=1)[:, None]
    ones = np.ones(len(first))
    same = (kind[first] == kind[second]).astype(float)
    cell = pair_cells([str(each) for each in kind], first, second)
    bases = {
        "Mantel": (_basis(ones[:, None]), everyone),
        "partial Mantel given same kind": (_basis(np.column_stack([ones, same])), everyone),
        "Mantel within kinds": (_basis(np.eye(cell.max() + 1)[cell]), inside),
    }
    return {
        (PAIRS, test): _correlations(off, js, basis, like, perms)[:, :, 0] for test, (basis, perms) in bases.items()
    }


def _basis(columns: Floats) -> Floats:
    return np.asarray(np.linalg.qr(columns)[0])


def _require_package_agrees(
    study: Study, tests: dict[tuple[str, str], Floats], everyone: LabelPermutations, inside: LabelPermutations
) -> None:
    """Compare the batch's first study with the package's own functions."""
    outcome, dyads = OUTCOMES[2], study.dyads(2)
    off = ~np.eye(len(study.kind), dtype=bool)
    pairs = []
    if (inside.reachable(dyads) == off).all():  # the package ranks a predictor over what relabelling reaches
        pairs.append((tests[outcome, "ρ within kinds"][0], within_kinds(dyads, JS, inside)))
    if len(dyads.sources) == len(study.kind):
        pairs.append(
            (tests[outcome, "ρ, relabelled"][0], permuted_correlations(dyads, [JS], "spearman", everyone)[:, 0])
        )
    t = permuted_t(dyads, (JS, COSINE), everyone, ranks=True)[:, 0]
    r = t / np.sqrt(dyads.n - 3 + t**2)
    pairs.append((tests[outcome, "JS beside cosine, MRQAP of ranks, relabelled"][0], r))
    for found, expected in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-9)
