"""Centred cosine between personas' centroids, and what each question contributes to it."""

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# A centred vector shorter than this share of the vector it came from is what rounding leaves of zero.
_ROUNDING = 16 * np.finfo(np.float64).eps


def centred_cosine(centroids: xr.DataArray, population: Sequence[str]) -> xr.DataArray:
    """Cosine of every two personas' centroids, after the mean centroid of a population is subtracted.

    Centroids of one layer share a large common component that makes every raw cosine nearly 1; which population's mean
    stands for it changes the result, so it has no default and is kept in the result's attribute `centred_on`.

    Args:
        centroids: dims (persona, ..., hidden), any further dims (such as layer) between them, any float dtype.
        population: the centring population: names of two or more of the personas, each once.

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
    """Jackknife pseudo-values, over questions, of the centred cosine: Q·θ − (Q−1)·θ₍₋q₎.

    A cosine of mean states is no mean of anything over questions; its pseudo-values behave as if it were (Tukey 1958,
    Ann. Math. Stat. 29, 614; Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 11). Their mean is the
    cosine less its jackknife estimate of bias, and their spread says how much the cosine owes to these questions.

    Args:
        states: dims (persona, question, ..., hidden) in any order, any float dtype: a persona's state for every
            question; the centroids are the means over questions.
        population: as in `centred_cosine`.

    Returns:
        Dims (question, ..., persona, other), float64; exactly symmetric, exactly 1 on the diagonal, elsewhere a little
        beyond [−1, 1] at times. NaN for a pair of which one, without that question, has no direction; all NaN where
        there is one question, for then nothing can be left out.

    Raises:
        ValueError: as in `centred_cosine`, of the means over all questions.
    """
    names = _names(states, "persona", "question", "hidden")
    members = _members(population, names)
    ordered = states.transpose("question", ..., "persona", "hidden")
    kept, questions = ordered.dims[:-2], ordered.sizes["question"]
    total = ordered.values.sum(axis=0, dtype=np.float64)
    cosine, norms, vectors = _cosine(total / questions, members)
    _require_directions(vectors, norms, names)
    values = np.full((questions, *cosine.shape), np.nan)
    # One question at a time: states of a large study fill gigabytes in float64.
    for place in range(questions if questions > 1 else 0):
        without, _, _ = _cosine((total - ordered.values[place]) / (questions - 1), members)
        values[place] = questions * cosine - (questions - 1) * without
    return _labelled(values, ordered, kept, names, population)


def _names(values: xr.DataArray, *dims: str) -> list[str]:
    """The personas, if all these dims are there."""
    if not set(dims) <= set(values.dims) or "persona" not in values.coords:
        needed = ", ".join((*dims[:-1], "...", dims[-1]))
        raise ValueError(f"values have dims {values.dims}; expected ({needed}), persona with its names")
    return [str(name) for name in values.coords["persona"].values]


def _cosine(values: Floats, members: list[int]) -> tuple[Floats, Floats, Floats]:
    """(..., K, H) → cosines (..., K, K), NaN where a vector has no direction; norms (..., K, 1); values as float64."""
    vectors = np.asarray(values, dtype=np.float64)
    centred = vectors - vectors[..., members, :].mean(axis=-2, keepdims=True)
    norms = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit = centred / np.where(_is_direction(vectors, norms), norms, np.nan)
    # The product's two triangles may differ in the last bit; one of them is taken for both.
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
    """Places of the population among the personas."""
    if len(set(names)) != len(names):
        raise ValueError(f"centroids name the personas {names}; expected each once")
    unknown = sorted(set(population) - set(names))
    if unknown:
        raise ValueError(
            f"centring population names {unknown}, of which there are no centroids; expected some of {names}"
        )
    if len(population) < 2 or len(set(population)) != len(population):
        raise ValueError(f"centring population is {list(population)}; expected two or more personas, each once")
    return [names.index(name) for name in population]


def _is_direction(vectors: Floats, norms: Floats) -> NDArray[np.bool_]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(norms > _ROUNDING * lengths)


def _require_directions(vectors: Floats, norms: Floats, names: list[str]) -> None:
    """Every centred centroid must be finite and point somewhere."""
    for fault, problem in (
        (~np.isfinite(norms), "is not finite, or that of a member of the population is not"),
        (~_is_direction(vectors, norms), "equals the mean of the centring population, so it has no direction"),
    ):
        if fault.any():
            name = names[int(np.argwhere(fault[..., 0])[0][-1])]
            raise ValueError(f"centroid of persona {name} {problem}")
