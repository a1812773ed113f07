"""Centred cosine between personas' centroids."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

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
    if not {"persona", "hidden"} <= set(centroids.dims) or "persona" not in centroids.coords:
        raise ValueError(
            f"centroids have dims {centroids.dims}; expected (persona, ..., hidden), persona with its names"
        )
    names = [str(name) for name in centroids.coords["persona"].values]
    members = _members(population, names)
    ordered = centroids.transpose(..., "persona", "hidden")
    vectors = np.asarray(ordered.values, dtype=np.float64)
    centred = vectors - vectors[..., members, :].mean(axis=-2, keepdims=True)
    norms = np.linalg.norm(centred, axis=-1, keepdims=True)
    _require_directions(vectors, norms, names)
    unit = centred / norms
    cosine = unit @ unit.swapaxes(-1, -2)
    # The product's two triangles may differ in the last bit; one of them is taken for both.
    upper = np.triu(np.clip(cosine, -1.0, 1.0), k=1)
    kept = ordered.dims[:-2]
    return xr.DataArray(
        upper + upper.swapaxes(-1, -2) + np.eye(len(names)),
        dims=(*kept, "persona", "other"),
        coords={**{d: ordered.coords[d] for d in kept if d in ordered.coords}, "persona": names, "other": names},
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


def _require_directions(vectors: np.ndarray, norms: np.ndarray, names: list[str]) -> None:
    """Every centred centroid must be finite and point somewhere."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    for fault, problem in (
        (~np.isfinite(norms), "is not finite, or that of a member of the population is not"),
        (norms <= _ROUNDING * lengths, "equals the mean of the centring population, so it has no direction"),
    ):
        if fault.any():
            name = names[int(np.argwhere(fault[..., 0])[0][-1])]
            raise ValueError(f"centroid of persona {name} {problem}")
