"""Coupling: correlation between a persona's similarity to the baseline and how well a marker can be trained into it.

One observation is a persona: its JS and cosine to the baseline, and its source rate. All personas are compared with the
same baseline, so results hold only for that baseline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations as orders_of

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.correlations import effective_n, iid_correlation, standardised
from persona_assets.statistics.dependent import aligned, williams, zou
from persona_assets.statistics.statement import Interval, PValue, Statement, UnanswerableError, View

Floats = NDArray[np.float64]

_OUTCOME = "source_rate"
_EXACT = 50_000  # the most permutations of the personas that are enumerated
_FEWEST = 4
_CLIP = 1 - 1e-6  # Fisher's z of ±1 is infinite
_TIE = 1e-12  # permuted statistics this close to the observed one differ only by rounding
_IID = "every persona independent; all share the one baseline"
_DYADIC = "personas exchangeable; all share the one baseline"
_VIEWS: tuple[View, ...] = ("iid", "dyadic")


@dataclass(frozen=True)
class _Settings:
    level: float
    permutations: int
    seed: int


def couple(table: pd.DataFrame, level: float, permutations: int, seed: int) -> list[Statement]:
    """Correlate JS and cosine to the baseline with source rates and with each other, and compare them.

    Args:
        table: one row per persona other than the baseline: persona, source_rate, and predictors named js… or cosine…,
            each to the baseline; unmeasured values are missing.
        level: coverage of the intervals, within (0, 1).
        permutations: number of random permutations of the personas' labels, if N! is too many to enumerate.
        seed: seed of the random permutations.

    Returns:
        Two statements (iid and dyadic) for Pearson and Spearman of every predictor with source rate, for Pearson of
        every JS with every cosine, and for the difference of their |Pearson| with source rate, including those that
        cannot be computed. With fewer than 4 source rates, a single statement that says so.
    """
    predictors = [str(column) for column in table.columns if str(column).startswith(("js", "cosine"))]
    personas = int(table[_OUTCOME].notna().sum())
    if personas < _FEWEST or not predictors:
        why = f"{personas} personas have a source rate; coupling needs at least {_FEWEST}"
        why = why if predictors else "neither a JS nor a cosine to the baseline is known"
        about = partial(Statement, family="coupling", quantity="pearson", outcome=_OUTCOME)
        return [about(view="dyadic", n=personas, unanswerable=why)]
    settings = _Settings(level, permutations, seed)
    pairs = [(a, b) for a in predictors if a.startswith("js") for b in predictors if b.startswith("cosine")]
    statements = []
    for predictor in predictors:
        for coefficient in ("pearson", "spearman"):
            statements += _correlate(table, _OUTCOME, predictor, coefficient, settings)
    for js, cosine in pairs:
        statements += _correlate(table, js, cosine, "pearson", settings)
    for js, cosine in pairs:
        statements += _compare(table, js, cosine, settings)
    return statements


def _correlate(
    table: pd.DataFrame, outcome: str, predictor: str, coefficient: str, settings: _Settings
) -> list[Statement]:
    """Return one correlation over personas, in both views."""
    names, (y, x) = _known(table, outcome, predictor)
    about = partial(
        Statement, family="coupling", quantity=coefficient, outcome=outcome, predictor=predictor, n=len(names)
    )
    try:
        r, interval, p = iid_correlation(x, y, coefficient, settings.level, "persona", (predictor, outcome))
    except UnanswerableError as error:
        return [about(view=view, unanswerable=str(error)) for view in _VIEWS]
    scored = stats.rankdata([x, y], axis=1) if coefficient == "spearman" else np.array([x, y])
    shuffled, exact = _shuffle(scored[1], settings)
    p_dyadic = _permutation_p(r, _row_correlations(shuffled, scored[:1]), exact)
    left_out = _leave_one_out(x, y, coefficient)
    jackknifed = _jackknife(r, left_out, settings.level, fisher=True)
    return [
        about(view="iid", estimate=r, interval=replace(interval, structure=_IID), p=replace(p, structure=_IID)),
        about(
            view="dyadic",
            estimate=r,
            interval=jackknifed,
            p=p_dyadic,
            n_effective=effective_n(r, jackknifed, coefficient) if jackknifed else math.nan,
            seed=None if exact else settings.seed,
            note=_influence(names, r, left_out),
        ),
    ]


def _compare(table: pd.DataFrame, js: str, cosine: str, settings: _Settings) -> list[Statement]:
    """Return the difference of two predictors' |Pearson| with source rate, in both views."""
    names, (y, a, b) = _known(table, _OUTCOME, js, cosine)
    about = partial(
        Statement,
        family="coupling",
        quantity="difference of |pearson|",
        outcome=_OUTCOME,
        predictor=f"{js} − {cosine}",
        n=len(names),
    )
    try:
        iid = partial(iid_correlation, coefficient="pearson", unit="persona")
        r12, r13 = (iid(x, y, names=(name, _OUTCOME))[0] for x, name in ((a, js), (b, cosine)))
        triple = aligned(r12, r13, iid(a, b, names=(js, cosine))[0])
        p = williams(*triple, len(names), "persona")
        interval = zou(*triple, len(names), settings.level, unit="persona")
    except UnanswerableError as error:
        return [about(view=view, unanswerable=str(error)) for view in _VIEWS]
    difference = abs(r12) - abs(r13)
    shuffled, exact = _shuffle(y, settings)
    null = np.abs(_row_correlations(shuffled, a[None])) - np.abs(_row_correlations(shuffled, b[None]))
    left_out = np.abs(_leave_one_out(a, y, "pearson")) - np.abs(_leave_one_out(b, y, "pearson"))
    influence = _influence(names, difference, left_out)
    return [
        about(
            view="iid", estimate=difference, interval=replace(interval, structure=_IID), p=replace(p, structure=_IID)
        ),
        about(
            view="dyadic",
            estimate=difference,
            interval=_jackknife(difference, left_out, settings.level, fisher=False),
            p=_permutation_p(difference, null, exact),
            seed=None if exact else settings.seed,
            note=f"p tests the null hypothesis that neither predictor is related to source rate; {influence}",
        ),
    ]


def _known(table: pd.DataFrame, *columns: str) -> tuple[list[str], list[Floats]]:
    """Return the names of the personas with all these columns, and the columns' values."""
    known = table.dropna(subset=list(columns))
    return [str(name) for name in known["persona"]], [known[column].to_numpy(dtype=np.float64) for column in columns]


def _shuffle(y: Floats, settings: _Settings) -> tuple[Floats, bool]:
    """Return the outcome under permuted labels, shape (permutations, N), and whether all permutations are included."""
    n = len(y)
    if math.factorial(n) <= _EXACT:
        return y[np.array(list(orders_of(range(n))))], True
    labels = np.tile(np.arange(n), (settings.permutations, 1))
    return y[np.random.default_rng(settings.seed).permuted(labels, axis=1)], False


def _permutation_p(observed: float, null: Floats, exact: bool) -> PValue:
    """Return the two-sided permutation p; the observed statistic counts as one if permutations are random."""
    sizes = np.abs(null)
    extreme = int((sizes >= abs(observed) - _TIE).sum())
    if exact:
        p, smallest = extreme / len(null), float((sizes >= sizes.max() - _TIE).mean())
    else:
        p, smallest = (1 + extreme) / (1 + len(null)), 1 / (1 + len(null))
    return PValue(
        p=p,
        smallest=smallest,
        method="permutation of personas' labels, " + ("exact" if exact else "sampled"),
        structure=_DYADIC,
        reference="Pitman 1937, J. R. Stat. Soc. Suppl. 4, 225–232"
        if exact
        else "Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39",
        resamples=len(null),
    )


def _leave_one_out(x: Floats, y: Floats, coefficient: str) -> Floats:
    """Return the correlation without each persona in turn, shape (N,); NaN if a variable is then constant."""
    n = len(x)
    others = np.array([[place for place in range(n) if place != left] for left in range(n)])
    kept = np.array([x[others], y[others]])
    varies = (np.ptp(kept, axis=2) > 0).all(axis=0)
    correlations = np.full(n, np.nan)
    kept = kept[:, varies]
    if coefficient == "spearman":
        kept = stats.rankdata(kept, axis=2)
    correlations[varies] = _row_correlations(*kept)
    return correlations


def _row_correlations(a: Floats, b: Floats) -> Floats:
    """Return Pearson of each row of a, shape (m, N), with the matching row of b, shape (m, N) or (1, N)."""
    return np.asarray((standardised(a) * standardised(b)).sum(axis=1))


def _jackknife(estimate: float, left_out: Floats, level: float, fisher: bool) -> Interval | None:
    """Return estimate ± t(N − 1) · √[(N − 1)/N Σ (θ₋ᵢ − θ̄)²], on Fisher's scale for a correlation (Miller 1974).

    None if a θ₋ᵢ is undefined. Every persona's value involves the baseline, which is never left out, so the interval
    covers the choice of the other personas only.
    """
    if not np.isfinite(left_out).all():
        return None
    n, note = len(left_out), ""
    centre, values = estimate, left_out
    if fisher:
        perfect = int((np.abs([estimate, *left_out]) > _CLIP).sum())
        note = f"{perfect} of {n + 1} correlations are ±1 and are clipped to ±{_CLIP}" if perfect else ""
        centre, values = float(np.arctanh(np.clip(estimate, -_CLIP, _CLIP))), np.arctanh(np.clip(values, -_CLIP, _CLIP))
    error = math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    low, high = centre - half, centre + half
    # A difference of two |r| is within [−1, 1] too.
    low, high = (math.tanh(low), math.tanh(high)) if fisher else (max(low, -1.0), min(high, 1.0))
    return Interval(
        low=low,
        high=high,
        level=level,
        method="delete-one-persona jackknife" + (" on Fisher z" if fisher else "") + f", t({n - 1})",
        structure=_DYADIC,
        reference="Miller 1974, Biometrika 61, 1–15",
        note=note,
    )


def _influence(names: Sequence[str], estimate: float, left_out: Floats) -> str:
    """Return the range of leave-one-out estimates and the most influential persona, in words."""
    if not np.isfinite(left_out).all():
        lost = ", ".join(name for name, value in zip(names, left_out, strict=True) if not math.isfinite(value))
        return f"no jackknife interval: without {lost} a variable is constant"
    low, high = int(left_out.argmin()), int(left_out.argmax())
    most = int(np.abs(left_out - estimate).argmax())
    return (
        f"leave-one-out range: {left_out[low]:+.2f} (without {names[low]}) to {left_out[high]:+.2f} "
        f"(without {names[high]}); {names[most]} has the largest influence"
    )
