"""Effect on ρ of measurement error from the limited number of replies (rates) and questions (divergences).

A draw simulates measuring the same dyads again with other replies or questions; personas stay the same.
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

_ROUNDING = 1e-24  # a sum of squares below this fraction of the uncentred one is zero up to rounding
_PERFECT = 1 - 1e-12  # a larger |correlation| is 1 up to rounding
_INTERVAL_REFERENCE = "Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 6 and 13"
_TWICE = "draws add error to values that already have some, so their correlations are closer to 0 than the observed one"


def rate_draws(found: Floats, total: Floats, draws: int, seed: int) -> Floats:
    """Draw rates from Beta(found + ½, total − found + ½), independently in every dyad.

    This is the posterior under Jeffreys' prior (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101–133, section 3.1). A
    parametric bootstrap at the observed rate would give a marker found 0 times in 20 no noise at all; here its rate has
    a standard deviation of 0.03.

    Args:
        found, total: shape (n,).

    Returns:
        Shape (draws, n), within [0, 1].

    Raises:
        UnanswerableError: a count is unknown, total is 0, or found is negative or exceeds total.
    """
    known = np.isfinite(found) & np.isfinite(total)
    if not known.all():
        raise UnanswerableError(f"found and total are unknown in {(~known).sum()} of {len(found)} dyads")
    if wrong := int(((total < 1) | (found < 0) | (found > total)).sum()):
        raise UnanswerableError(
            f"the counts are invalid in {wrong} of {len(found)} dyads; expected total ≥ 1 and 0 ≤ found ≤ total"
        )
    rng = np.random.default_rng(seed)
    return rng.beta(found + 0.5, total - found + 0.5, size=(draws, len(found)))


def question_draws(by_question: Floats, draws: int, seed: int) -> Floats:
    """Return means over Q questions drawn with replacement, the same for all dyads (Efron 1979, Ann. Stat. 7, 1–26).

    A question affects all dyads together, so drawing questions independently per dyad would overstate the noise of
    differences between dyads. As for any bootstrap of a mean, the variance is (Q − 1)/Q of the unbiased one.

    Args:
        by_question: shape (Q, n).

    Returns:
        Shape (draws, n).

    Raises:
        UnanswerableError: there are fewer than two questions, or a value is unknown.
    """
    questions, n = by_question.shape
    if questions < 2:
        raise UnanswerableError(f"the number of questions is {questions}; resampling questions needs at least 2")
    if unknown := int((~np.isfinite(by_question)).any(axis=0).sum()):
        raise UnanswerableError(f"the value of a question is unknown in {unknown} of {n} dyads")
    times = np.random.default_rng(seed).multinomial(questions, np.full(questions, 1 / questions), size=draws)
    return np.asarray(times @ by_question / questions)


def noisy_correlations(x_draws: Floats, y_draws: Floats, coefficient: Coefficient) -> Floats:
    """Return the correlation of x and y in every draw.

    Args:
        x_draws, y_draws: shape (B, n).

    Returns:
        Shape (B,); NaN where x or y is constant over the dyads of a draw.

    Raises:
        UnanswerableError: there are fewer than 4 dyads, or a value is unknown.
    """
    n = x_draws.shape[1]
    if n < FEWEST:
        raise UnanswerableError(f"there are {n} dyads; a correlation needs at least {FEWEST}")
    _require_known(x_draws)
    _require_known(y_draws)
    samples = np.empty(len(x_draws))
    for rows in chunks(len(x_draws), 2 * n):
        x, y = (_unit(_scores(draws[rows], coefficient)) for draws in (x_draws, y_draws))
        samples[rows] = np.clip(np.einsum("bn,bn->b", x, y), -1.0, 1.0)
    return samples


def reliability(values: Floats, draws: Floats, coefficient: Coefficient) -> float:
    """Return the fraction of the variance across dyads that is not measurement error, within [0, 1].

    It is 1 − V_error / V_observed. For Pearson V_error is the mean over draws of the variance across dyads of
    (draw − values), V_observed the variance of the values (Lord & Novick 1968, Statistical Theories of Mental Test
    Scores, section 3.4). Errors common to all dyads are excluded, because they do not change a correlation.

    The variance of ranks is fixed, so differences of ranks understate the error (0.71 for a true reliability of 0.63 in
    the tests). Since corr(values, draw)² = V_observed / (V_observed + V_error), Spearman uses 2 − 1 / c², c being the
    mean rank correlation of values and draws. That is an approximation: draws that order tied dyads count as error, so
    with a floor the reliability is too low and corrections based on it are too large (simulated with 20 replies: 0.73
    for a true 0.79 if 38 % of rates are 0, but 0.19 for 0.59 if 62 % are; with 100 replies and 39 %: 0.78 for 0.84).

    Args:
        values: shape (n,), as measured.
        draws: shape (B, n), simulated repetitions of the measurement.

    Raises:
        UnanswerableError: there are fewer than 4 dyads, values are constant, or one is unknown.
    """
    require_varying(values, "the measured value", "dyad")
    if coefficient == "spearman":
        again = noisy_correlations(np.broadcast_to(values, draws.shape), draws, coefficient)
        c = float(np.nan_to_num(again).mean())  # a constant draw counts as uncorrelated
        share = 2.0 - 1.0 / c**2 if c > 0 else 0.0
    else:
        _require_known(draws)
        errors = np.concatenate([(draws[rows] - values).var(axis=1) for rows in chunks(*draws.shape)])
        share = 1.0 - errors.mean() / values.var()
    return float(np.clip(share, 0.0, 1.0))


def explained_by_noise(estimate: float, reliability_x: float, reliability_y: float) -> tuple[float, float]:
    """Return the correlation corrected for attenuation, and the fraction of its gap to ±1 that the correction closes.

    ρ' = ρ / √(reliability_x · reliability_y), clipped to [−1, 1] (Spearman 1904, Am. J. Psychol. 15, 72–101), and
    (|ρ'| − |ρ|) / (1 − |ρ|). Exact for Pearson with errors that are independent of the true values and of each other;
    an approximation for ranks.

    Args:
        estimate: ρ.
        reliability_x, reliability_y: within [0, 1].

    Raises:
        UnanswerableError: a reliability is 0, or the correlation is undefined or ±1.
    """
    if not np.isfinite(estimate):
        raise UnanswerableError("the correlation is undefined")
    if abs(estimate) >= _PERFECT:
        raise UnanswerableError("the correlation is already ±1")
    if min(reliability_x, reliability_y) <= 0:
        raise UnanswerableError("a measured value varies no more than its measurement error")
    corrected = float(np.clip(estimate / np.sqrt(reliability_x * reliability_y), -1.0, 1.0))
    return corrected, (abs(corrected) - abs(estimate)) / (1.0 - abs(estimate))


def noise_interval(samples: Floats, level: float, structure: str) -> Interval:
    """Return the percentile interval of the correlations over draws.

    Args:
        samples: shape (B,), NaN where a draw gave no correlation.
        structure: what was redrawn and what stayed fixed, in words.

    Raises:
        UnanswerableError: no draw gave a correlation.
    """
    method = f"percentiles over {len(samples):,} draws of measurement error"
    interval = percentile_interval(samples, level, method, structure, _INTERVAL_REFERENCE)
    return replace(interval, note="; ".join(note for note in (interval.note, _TWICE) if note))


def _scores(rows: Floats, coefficient: Coefficient) -> Floats:
    """Return the values, or their ranks within each row for Spearman."""
    return np.asarray(stats.rankdata(rows, axis=1), dtype=np.float64) if coefficient == "spearman" else rows


def _unit(rows: Floats) -> Floats:
    """Return each row with mean 0 and length 1; NaN for constant rows."""
    means = rows.mean(axis=1, keepdims=True)
    centred = rows - means
    squares = np.einsum("bn,bn->b", centred, centred)[:, None]
    squares[squares <= _ROUNDING * (squares + means**2 * rows.shape[1])] = np.nan
    return np.asarray(centred / np.sqrt(squares))


def _require_known(draws: Floats) -> None:
    if unknown := int((~np.isfinite(draws)).any(axis=0).sum()):
        raise UnanswerableError(f"a draw is unknown in {unknown} of {draws.shape[1]} dyads")
