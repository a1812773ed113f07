"""Measurement error: rates of a few dozen replies, divergences over a few dozen questions, and what that does to ρ.

A draw is what another round of replies or of questions could have measured in the same dyads; personas stay.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from persona_assets.statistics.chunks import chunks
from persona_assets.statistics.correlations import require_varying
from persona_assets.statistics.resampling import percentile_interval
from persona_assets.statistics.statement import Interval, UnanswerableError
from persona_assets.statistics.weighted import FEWEST, Coefficient

Floats = NDArray[np.float64]

_ROUNDING = 1e-24  # a sum of squares below this share of the uncentred one is what rounding leaves of zero
_PERFECT = 1 - 1e-12  # beyond it a correlation is 1 but for rounding
_INTERVAL_REFERENCE = "Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13"
_TWICE = "a draw adds error to values that have some already, so draws lie nearer to 0 than the correlation itself"


def rate_draws(found: Floats, total: Floats, draws: int, seed: int) -> Floats:
    """Rates that the replies allow: drawn from Beta(found + ½, total − found + ½), independently in every dyad.

    That is what Jeffreys' prior makes of `found` in `total` (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101–133,
    section 3.1). A parametric bootstrap, which draws counts at the rate that was found, would take a marker that was
    found 0 times in 20 for one that can never be found, and give it no noise; here its rate has a standard deviation of
    0.03.

    Args:
        found, total: shape (n,).

    Returns:
        Shape (draws, n), within [0, 1].

    Raises:
        UnanswerableError: a count is unknown, nothing was sampled, or more was found than sampled.
    """
    known = np.isfinite(found) & np.isfinite(total)
    if not known.all():
        raise UnanswerableError(f"found and total are unknown in {(~known).sum()} of {len(found)} dyads")
    if wrong := int(((total < 1) | (found < 0) | (found > total)).sum()):
        raise UnanswerableError(f"found and total are no counts of a sample in {wrong} of {len(found)} dyads")
    rng = np.random.default_rng(seed)
    return rng.beta(found + 0.5, total - found + 0.5, size=(draws, len(found)))


def question_draws(by_question: Floats, draws: int, seed: int) -> Floats:
    """Means over Q questions drawn with replacement, the same ones for all dyads (Efron 1979, Ann. Stat. 7, 1–26).

    One question moves all dyads together, so drawing them apart in every dyad would make differences between dyads
    noisier than they are. As every bootstrap of a mean, its variance is (Q − 1)/Q of the unbiased one.

    Args:
        by_question: shape (Q, n).

    Returns:
        Shape (draws, n).

    Raises:
        UnanswerableError: fewer than two questions, or a value is unknown.
    """
    questions, n = by_question.shape
    if questions < 2:
        raise UnanswerableError(f"resampling questions takes at least 2, and the number of questions is {questions}")
    if unknown := int((~np.isfinite(by_question)).any(axis=0).sum()):
        raise UnanswerableError(f"the value of a question is unknown in {unknown} of {n} dyads")
    times = np.random.default_rng(seed).multinomial(questions, np.full(questions, 1 / questions), size=draws)
    return np.asarray(times @ by_question / questions)


def noisy_correlations(x_draws: Floats, y_draws: Floats, coefficient: Coefficient) -> Floats:
    """Correlation of x and y in every draw.

    Args:
        x_draws, y_draws: shape (B, n).

    Returns:
        Shape (B,); NaN where x or y is the same in all dyads of a draw.

    Raises:
        UnanswerableError: fewer than 4 dyads, or a value is unknown.
    """
    n = x_draws.shape[1]
    if n < FEWEST:
        raise UnanswerableError(f"there are {n} dyads; a correlation takes at least {FEWEST}")
    _require_known(x_draws)
    _require_known(y_draws)
    samples = np.empty(len(x_draws))
    for rows in chunks(len(x_draws), 2 * n):
        x, y = (_unit(_scores(draws[rows], coefficient)) for draws in (x_draws, y_draws))
        samples[rows] = np.clip(np.einsum("bn,bn->b", x, y), -1.0, 1.0)
    return samples


def reliability(values: Floats, draws: Floats, coefficient: Coefficient) -> float:
    """Share of the variance across dyads that is not measurement error, 1 − V_error / V_observed, within [0, 1].

    For Pearson V_error is the mean over draws of the variance across dyads of (draw − values), V_observed the variance
    of the values (Lord & Novick 1968, Statistical Theories of Mental Test Scores, section 3.4). What moves all dyads
    alike is not in it, because it changes no correlation.

    Ranks always spread the same, so that differences of ranks understate the error (0.71 for a reliability of 0.63 in
    the tests). Since corr(values, draw)² = V_observed / (V_observed + V_error), Spearman takes 2 − 1 / c², c the mean
    rank correlation of values and draws. That is an approximation: whatever orders dyads that tie counts as error, so
    that a floor makes it too low, and corrections made from it too large (20 replies, simulated: 0.73 for a truth of
    0.79 where 38 % of rates are 0, but 0.19 for 0.59 where 62 % are; 100 replies, 39 %: 0.78 for 0.84).

    Args:
        values: shape (n,), as measured.
        draws: shape (B, n), the same measured again.

    Raises:
        UnanswerableError: fewer than 4 dyads, values are the same in every dyad, or one is unknown.
    """
    require_varying(values, "what was measured", "dyad")
    if coefficient == "spearman":
        again = noisy_correlations(np.broadcast_to(values, draws.shape), draws, coefficient)
        c = float(np.nan_to_num(again).mean())  # a draw in which nothing varies agrees with nothing
        share = 2.0 - 1.0 / c**2 if c > 0 else 0.0
    else:
        _require_known(draws)
        errors = np.concatenate([(draws[rows] - values).var(axis=1) for rows in chunks(*draws.shape)])
        share = 1.0 - errors.mean() / values.var()
    return float(np.clip(share, 0.0, 1.0))


def explained_by_noise(estimate: float, reliability_x: float, reliability_y: float) -> tuple[float, float]:
    """What a correlation would be without measurement error, and how much of what it lacks to ±1 that fills.

    ρ' = ρ / √(reliability_x · reliability_y), within [−1, 1] (Spearman 1904, Am. J. Psychol. 15, 72–101), and
    (|ρ'| − |ρ|) / (1 − |ρ|). Exact for Pearson and errors that are independent of the truth and of each other; for
    ranks an approximation.

    Args:
        estimate: ρ.
        reliability_x, reliability_y: within [0, 1].

    Raises:
        UnanswerableError: one of the two is all error, or the correlation is unknown or ±1, and lacks nothing.
    """
    if not np.isfinite(estimate):
        raise UnanswerableError("the correlation does not exist")
    if abs(estimate) >= _PERFECT:
        raise UnanswerableError("the correlation is ±1, and nothing is missing from it")
    if min(reliability_x, reliability_y) <= 0:
        raise UnanswerableError("what was measured varies no more than its measurement error")
    corrected = float(np.clip(estimate / np.sqrt(reliability_x * reliability_y), -1.0, 1.0))
    return corrected, (abs(corrected) - abs(estimate)) / (1.0 - abs(estimate))


def noise_interval(samples: Floats, level: float, structure: str) -> Interval:
    """The middle `level` of the correlations over draws.

    Args:
        samples: shape (B,), NaN where a draw gave no correlation.
        structure: what was drawn and what stayed.

    Raises:
        UnanswerableError: no draw gave a correlation.
    """
    method = f"percentiles over {len(samples):,} draws of measurement error"
    interval = percentile_interval(samples, level, method, structure, _INTERVAL_REFERENCE)
    return replace(interval, note="; ".join(note for note in (interval.note, _TWICE) if note))


def _scores(rows: Floats, coefficient: Coefficient) -> Floats:
    """Values as they are, or their ranks in each row for Spearman."""
    return np.asarray(stats.rankdata(rows, axis=1), dtype=np.float64) if coefficient == "spearman" else rows


def _unit(rows: Floats) -> Floats:
    """Each row with mean 0 and length 1; NaN where it is constant."""
    means = rows.mean(axis=1, keepdims=True)
    centred = rows - means
    squares = np.einsum("bn,bn->b", centred, centred)[:, None]
    squares[squares <= _ROUNDING * (squares + means**2 * rows.shape[1])] = np.nan
    return np.asarray(centred / np.sqrt(squares))


def _require_known(draws: Floats) -> None:
    if unknown := int((~np.isfinite(draws)).any(axis=0).sum()):
        raise UnanswerableError(f"a draw is unknown in {unknown} of {draws.shape[1]} dyads")
