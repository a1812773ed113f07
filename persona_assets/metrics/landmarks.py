"""JS over every generator's responses, estimated from those of a few: the landmarks.

All K scorers read the landmarks' responses, so of m landmarks every pair has m values, and lacks K − m. Values are
products, nearly: of the pair's own level b, of a generator's factor c (some write texts on which all personas differ
more), and of a factor r where the generator is one of the pair (it differs from others most on its own responses):

    x[g, p] ≈ b[p] · c[g] · r[place of g in p]               fitted by proportional scaling (Deming & Stephan 1940)

What was measured stands as it is. What was not is b, times r where one of the pair would have written, with the mean
factor of the landmarks (1) for generators that nobody has heard. A plain mean over landmarks counts a landmark's own
pairs m in K times too often, and takes for a pair's what is the generator's.

The error is the jackknife's over landmarks, each left out in turn, with the correction for a finite population
(Cochran 1977, eq. 2.20): landmarks are thought of as drawn from the K personas, and K of them leave no error.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
_SWEEPS = 30  # every estimate then stands to 1e-6


def estimate_over_all(values: xr.DataArray, level: float = 0.95) -> xr.Dataset:
    """What `average_over_responses(values, "all")` would be if every persona had written.

    Args:
        values: dims (generator, question, persona, other) in any order, in nats, of m ≥ 2 generators among the K
            personas; +inf allowed.
        level: coverage of the interval.

    Returns:
        estimate (persona, other); error, its standard error against the mean over all generators' responses to the same
        questions; low, high: an interval that also covers other questions (both jackknives' variances added, Student's
        t with m − 1 degrees of freedom, on the logarithm's scale). NaN or +inf where a landmark's is; diagonal 0.

    Raises:
        ValueError: fewer than two generators, or one that is no persona.
    """
    names = [str(name) for name in values["persona"].values]
    generators = [str(name) for name in values["generator"].values]
    if len(generators) < 2 or not set(generators) <= set(names):
        raise ValueError(f"generators are {generators}; expected two or more of the personas {names}")
    ordered = values.transpose("generator", "question", "persona", "other").sel(other=names)
    responses = np.asarray(ordered.to_numpy(), dtype=np.float64)
    places = np.array([names.index(name) for name in generators])
    landmarks, questions = responses.shape[:2]
    means = responses.mean(axis=1)
    estimate = _estimate(means, places)
    without = np.stack([_estimate(np.delete(means, k, axis=0), np.delete(places, k)) for k in range(landmarks)])
    of_landmarks = _jackknife(without) * (1 - landmarks / len(names))
    of_questions = np.zeros_like(estimate)
    if questions > 1:
        left_out = np.stack([np.delete(responses, q, axis=1).mean(axis=1) for q in range(questions)], axis=1)
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
    """(K, K) from the landmarks' (m, K, K), which are the personas at `places`."""
    landmarks, personas, _ = means.shape
    first, second = np.zeros((2, landmarks, personas, personas), dtype=bool)
    first[np.arange(landmarks), places, :] = True
    second[np.arange(landmarks), :, places] = True
    off = ~np.eye(personas, dtype=bool)
    # JS is finite; of KL, a pair that is infinite somewhere is so in the mean and tells nothing of factors.
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
    estimate = means.mean(axis=0)  # what is not fitted: the diagonal, and what is nowhere or everywhere
    estimate[fitted] = (x.sum(axis=0) + absent * level) / personas
    return np.asarray(estimate)


def _jackknife(left_out: Floats) -> Floats:
    """Variance from estimates that each lack one of n (Efron 1982)."""
    n = len(left_out)
    with np.errstate(invalid="ignore"):
        deviations = left_out - left_out.mean(axis=0)
    variance: Floats = (n - 1) / n * (deviations**2).sum(axis=0)
    return variance
