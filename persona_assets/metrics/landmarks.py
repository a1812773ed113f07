"""JS over every generator's responses, estimated from the responses of a few generators (landmarks).

All K scorers score the landmarks' responses, so with m landmarks every pair has m values and lacks K − m. A value is
approximately a product of the pair's level b, a generator's factor c (all personas differ more on some generators'
responses), and a factor r if the generator is one of the pair (it differs from others most on its own responses):

    x[g, p] ≈ b[p] · c[g] · r[place of g in p]               fitted by proportional scaling (Deming & Stephan 1940)

Measured values are kept. A missing value is estimated as b, times r if the generator is one of the pair; generators
that are not landmarks get the landmarks' mean factor, 1. A plain mean over landmarks would instead over-represent a
landmark's own responses in its pairs and would attribute generator effects to pairs.

The standard error is a jackknife over landmarks with the finite population correction (Cochran 1977, eq. 2.20):
landmarks are treated as a sample of the K personas, so with K landmarks the error is 0.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
_SWEEPS = 30  # enough for estimates to converge to 1e-6


def estimate_over_all(values: xr.DataArray, level: float = 0.95) -> xr.Dataset:
    """Estimate what `average_over_responses(values, "all")` would be if every persona had generated responses.

    Args:
        values: dims (generator, question, persona, other) in any order, in nats, of m ≥ 2 generators among the K
            personas; +inf allowed.
        level: coverage of the interval.

    Returns:
        estimate (persona, other); error: its standard error relative to the mean over all generators' responses to the
        same questions; low, high: an interval that also accounts for the choice of questions (the variances of both
        jackknives added, Student's t with m − 1 degrees of freedom, on the log scale). NaN or +inf where a landmark's
        value is; 0 on the diagonal.

    Raises:
        ValueError: there are fewer than two generators, or one of them is not a persona.
    """
    names = [str(name) for name in values["persona"].values]
    generators = [str(name) for name in values["generator"].values]
    if len(generators) < 2 or not set(generators) <= set(names):
        raise ValueError(f"generators are {generators}; expected two or more of the personas {names}")
    ordered = values.transpose("generator", "question", "persona", "other").sel(other=names)
    responses = np.asarray(ordered.to_numpy(), dtype=np.float64)
    places = np.array([names.index(name) for name in generators])
    landmarks, questions = responses.shape[:2]
    # A response that was not scored is NaN and left out.
    mean = np.nanmean if np.isnan(responses).any() else np.mean
    means = mean(responses, axis=1)
    estimate = _estimate(means, places)
    without = np.stack([_estimate(np.delete(means, k, axis=0), np.delete(places, k)) for k in range(landmarks)])
    of_landmarks = _jackknife(without) * (1 - landmarks / len(names))
    of_questions = np.zeros_like(estimate)
    if questions > 1:
        left_out = np.stack([mean(np.delete(responses, q, axis=1), axis=1) for q in range(questions)], axis=1)
        of_questions = _jackknife(np.stack([_estimate(left_out[:, q], places) for q in range(questions)]))
    reach = student.ppf(0.5 + level / 2, landmarks - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(estimate > 0, np.sqrt(of_landmarks + of_questions) / estimate, 0.0)
        low, high = (estimate * np.exp(side * reach * relative) for side in (-1, 1))
    found = {"estimate": estimate, "error": np.sqrt(of_landmarks), "low": low, "high": high}
    return xr.Dataset(
        {name: (("persona", "other"), matrix) for name, matrix in found.items()},
        coords={"persona": names, "other": names},
    )


def _estimate(means: Floats, places: NDArray[np.int_]) -> Floats:
    """Return the (K, K) estimate from the (m, K, K) means of the landmarks, which are the personas at `places`."""
    landmarks, personas, _ = means.shape
    first, second = np.zeros((2, landmarks, personas, personas), dtype=bool)
    first[np.arange(landmarks), places, :] = True
    second[np.arange(landmarks), :, places] = True
    off = ~np.eye(personas, dtype=bool)
    # Only finite pairs are fitted: a KL that is infinite for one landmark has an infinite mean and says nothing about
    # factors.
    fitted = off & np.isfinite(means).all(axis=0) & (means > 0).all(axis=0)
    x, own = means[:, fitted], np.stack([first[:, fitted], second[:, fitted]])
    level, factor, ratios = x.mean(axis=0), np.ones(landmarks), np.ones(2)
    for _ in range(_SWEEPS):
        times = np.where(own[0], ratios[0], 1.0) * np.where(own[1], ratios[1], 1.0)
        factor = x.sum(axis=1) / (level * times).sum(axis=1)
        factor /= factor.mean()
        level = x.sum(axis=0) / (factor[:, None] * times).sum(axis=0)
        modelled = level * factor[:, None]
        ratios = np.array([x[of].sum() / modelled[of].sum() if of.any() else 1.0 for of in own])
    unheard = np.stack([~of.any(axis=0) for of in own])
    absent = (personas - landmarks) - unheard.sum(axis=0) + unheard[0] * ratios[0] + unheard[1] * ratios[1]
    estimate = means.mean(axis=0)  # for cells that are not fitted: the diagonal, and pairs with a 0, inf or NaN
    estimate[fitted] = (x.sum(axis=0) + absent * level) / personas
    return np.asarray(estimate)


def _jackknife(left_out: Floats) -> Floats:
    """Return the jackknife variance from n leave-one-out estimates (Efron 1982)."""
    n = len(left_out)
    with np.errstate(invalid="ignore"):
        deviations = left_out - left_out.mean(axis=0)
    variance: Floats = (n - 1) / n * (deviations**2).sum(axis=0)
    return variance
