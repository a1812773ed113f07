"""The most similar and most divergent pairs, for asset metadata and checks."""

import numpy as np
import xarray as xr

Pair = tuple[str, str]


def ends(matrix: xr.DataArray) -> tuple[Pair, Pair]:
    """Return the unordered pairs with the lowest and highest value of a symmetric (persona, other) matrix.

    Raises:
        ValueError: no pair has a value.
    """
    names = [str(name) for name in matrix["persona"].values]
    rows, columns = np.triu_indices(len(names), k=1)
    values = matrix.transpose("persona", "other").sel(other=names).to_numpy().astype(float)[rows, columns]
    if not np.isfinite(values).any():
        raise ValueError(f"no pair of {len(names)} personas has a value")
    lowest, highest = (int(find(values)) for find in (np.nanargmin, np.nanargmax))
    return (names[rows[lowest]], names[columns[lowest]]), (names[rows[highest]], names[columns[highest]])


def js_extremes(logit_js_matrix: xr.Dataset) -> dict[str, str]:
    """Describe the most similar and the most divergent pair by JS, with their values."""
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    similar, divergent = ends(js)
    return {"most similar": _named(js, similar, "nats"), "most divergent": _named(js, divergent, "nats")}


def js_range(logit_js_matrix: xr.Dataset) -> dict[str, float]:
    """Return the lowest, mean and highest JS over unordered pairs, in nats."""
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    pairs = js.transpose("persona", "other").to_numpy()[np.triu_indices(js.sizes["persona"], k=1)]
    return {"js_min": float(np.nanmin(pairs)), "js_mean": float(np.nanmean(pairs)), "js_max": float(np.nanmax(pairs))}


def complete(logit_js_matrix: xr.Dataset) -> bool:
    """Return whether every pair has a JS; a design may leave pairs out."""
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    return bool(js.notnull().all())


def cosine_extremes(centroid_cosine: xr.Dataset) -> dict[str, str]:
    """Describe the pairs with the highest and lowest cosine, by centring population and layer."""
    found = {}
    for population in centroid_cosine["population"].values:
        for layer in centroid_cosine["layer"].values:
            cosine = centroid_cosine["cosine"].sel(population=population, layer=layer)
            if not cosine.notnull().any():  # an imported run may lack layers
                continue
            lowest, highest = ends(cosine)
            found[f"{population} layer {layer}"] = f"{_named(cosine, highest)} to {_named(cosine, lowest)}"
    return found


def _named(matrix: xr.DataArray, pair: Pair, unit: str = "") -> str:
    value = float(matrix.sel(persona=pair[0], other=pair[1]))
    return f"{pair[0]} – {pair[1]} {value:.4f} {unit}".rstrip()
