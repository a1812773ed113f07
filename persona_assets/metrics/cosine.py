"""Centred cosine between personas' centroids, and its jackknife pseudo-values over questions."""

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A centred vector shorter than this fraction of the original vector is zero up to rounding.
_ROUNDING = 16 * np.finfo(np.float64).eps


def centred_cosine(centroids: xr.DataArray, population: Sequence[str]) -> xr.DataArray:
    """Return the cosine between every two personas' centroids after subtracting the mean centroid of a population.

    Centroids of one layer share a large common component, so every raw cosine is close to 1. The result depends on
    which population's mean is subtracted; the population therefore has no default and is stored in the attribute
    `centred_on`.

    Args:
        centroids: dims (persona, ..., hidden), with any further dims (such as layer), any float dtype.
        population: the centring population: names of at least two of the personas, each once.

    Returns:
        Dims (..., persona, other), float64, within [−1, 1]; exactly symmetric, exactly 1 on the diagonal.

    Raises:
        ValueError: dims persona or hidden are missing, names are unknown or repeated, the population has fewer than two
            personas, or a persona's centroid is not finite or coincides with the mean.
    """
    names = _names(centroids, "persona", "hidden")
    ordered = centroids.transpose(..., "persona", "hidden")
    cosine, norms, vectors = _cosine(ordered.values, _members(population, names))
    _require_directions(vectors, norms, names)
    return _labelled(cosine, ordered, ordered.dims[:-2], names, population)


def cosine_pseudovalues(states: xr.DataArray, population: Sequence[str]) -> xr.DataArray:
    """Return jackknife pseudo-values of the centred cosine over questions: Q·θ − (Q−1)·θ₍₋q₎.

    A cosine of mean states is not a mean over questions, but its pseudo-values can be treated as if it were (Tukey
    1958, Ann. Math. Stat. 29, 614; Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 11). Their mean
    is the bias-corrected cosine, and their spread shows how strongly the cosine depends on the choice of questions.

    Args:
        states: dims (persona, question, ..., hidden) in any order, any float dtype: a persona's state for every
            question; the centroids are the means over questions.
        population: as in `centred_cosine`.

    Returns:
        Dims (question, ..., persona, other), float64; exactly symmetric, exactly 1 on the diagonal, elsewhere
        occasionally slightly outside [−1, 1]. NaN where leaving out a question makes a persona's centred vector zero;
        all NaN with a single question, because nothing can be left out.

    Raises:
        ValueError: as in `centred_cosine`, applied to the means over all questions.
    """
    names = _names(states, "persona", "question", "hidden")
    members = _members(population, names)
    ordered = states.transpose("question", ..., "persona", "hidden")
    kept, questions = ordered.dims[:-2], ordered.sizes["question"]
    total = ordered.values.sum(axis=0, dtype=np.float64)
    cosine, norms, vectors = _cosine(total / questions, members)
    _require_directions(vectors, norms, names)
    values = np.full((questions, *cosine.shape), np.nan)
    # One question at a time, because a large study's states take gigabytes in float64.
    for place in range(questions if questions > 1 else 0):
        without, _, _ = _cosine((total - ordered.values[place]) / (questions - 1), members)
        values[place] = questions * cosine - (questions - 1) * without
    return _labelled(values, ordered, kept, names, population)


def _names(values: xr.DataArray, *dims: str) -> list[str]:
    """Return the personas' names; raise ValueError if a dim is missing."""
    if not set(dims) <= set(values.dims) or "persona" not in values.coords:
        needed = ", ".join((*dims[:-1], "...", dims[-1]))
        raise ValueError(f"values have dims {values.dims}; expected ({needed}), with names as the persona coordinate")
    return [str(name) for name in values.coords["persona"].values]


def _cosine(values: Floats, members: list[int]) -> tuple[Floats, Floats, Floats]:
    """Return cosines (..., K, K) of (..., K, H), NaN where a centred vector is zero; norms (..., K, 1); and the values
    as float64.
    """
    vectors = np.asarray(values, dtype=np.float64)
    centred = vectors - vectors[..., members, :].mean(axis=-2, keepdims=True)
    norms = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit = centred / np.where(_is_direction(vectors, norms), norms, np.nan)
    # The two triangles of the product may differ in the last bit; mirror one of them.
    upper = np.triu(np.clip(unit @ unit.swapaxes(-1, -2), -1.0, 1.0), k=1)
    return upper + upper.swapaxes(-1, -2) + np.eye(upper.shape[-1]), norms, vectors


def _labelled(
    cosine: Floats, like: xr.DataArray, kept: tuple[Hashable, ...], names: list[str], population: Sequence[str]
) -> xr.DataArray:
    return xr.DataArray(
        cosine,
        dims=(*kept, "persona", "other"),
        coords={**{d: like.coords[d] for d in kept if d in like.coords}, "persona": names, "other": names},
        attrs={"centred_on": ", ".join(population)},
    )


def _members(population: Sequence[str], names: list[str]) -> list[int]:
    """Return the indices of the population among the personas."""
    if len(set(names)) != len(names):
        raise ValueError(f"centroids name the personas {names}; expected each once")
    unknown = sorted(set(population) - set(names))
    if unknown:
        raise ValueError(
            f"centring population names {unknown}, which have no centroids; expected at least two of {names}"
        )
    if len(population) < 2 or len(set(population)) != len(population):
        raise ValueError(f"centring population is {list(population)}; expected two or more personas, each once")
    return [names.index(name) for name in population]


def _is_direction(vectors: Floats, norms: Floats) -> NDArray[np.bool_]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(norms > _ROUNDING * lengths)


def _require_directions(vectors: Floats, norms: Floats, names: list[str]) -> None:
    """Raise ValueError unless every centred centroid is finite and nonzero."""
    for fault, problem in (
        (~np.isfinite(norms), "is not finite, or the centroid of a member of the centring population is not"),
        (~_is_direction(vectors, norms), "equals the mean of the centring population, so its cosine is undefined"),
    ):
        if fault.any():
            name = names[int(np.argwhere(fault[..., 0])[0][-1])]
            raise ValueError(f"centroid of persona {name} {problem}")
