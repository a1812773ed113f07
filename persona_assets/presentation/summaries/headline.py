"""Headline numbers: range of JS and the most similar and most divergent pairs."""

from typing import TypedDict

import numpy as np
import xarray as xr

from persona_assets.presentation.summaries.extremes import ends


class Interval(TypedDict):
    """JS and its question-bootstrap interval, in nats."""

    js: float
    js_low: float
    js_high: float


class Headline(TypedDict):
    """Headline numbers of a checkpoint. Cosines are keyed by centring population, then layer."""

    generators: str
    level: float
    personas: int
    questions: int
    pairs: int
    js_min: float
    js_max: float
    js_mean: float
    most_similar: tuple[str, str]
    most_similar_js: Interval
    most_similar_cosine: dict[str, dict[int, float]]
    most_divergent: tuple[str, str]
    most_divergent_js: Interval
    most_divergent_cosine: dict[str, dict[int, float]]


def headline(logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset) -> Headline:
    """Return the range and mean of JS over pairs, and the most similar and most divergent pair.

    Args:
        logit_js_matrix: `js`, `js_low`, `js_high` with dims (generators, persona, other), in nats. The subset is
            `generators_shown`. For `source` and `target`, which give a pair two values, the subset `pair` (their mean)
            is used instead.
        centroid_cosine: `cosine` with dims (population, layer, persona, other).

    Raises:
        ValueError: no pair has a JS.
    """
    shown = str(logit_js_matrix.attrs["generators_shown"])
    generators = "pair" if shown in ("source", "target") else shown
    matrix = logit_js_matrix[["js", "js_low", "js_high"]].sel(generators=generators).transpose("persona", "other")
    try:
        similar, divergent = ends(matrix["js"])
    except ValueError as error:
        raise ValueError(f"logit_js_matrix: generators={generators!r}: {error}") from error
    names = list(matrix["persona"].values)
    js = matrix["js"].sel(other=names).to_numpy().astype(float)[np.triu_indices(len(names), k=1)]
    return Headline(
        generators=generators,
        level=float(logit_js_matrix.attrs["level"]),
        personas=len(names),
        questions=int(logit_js_matrix.attrs["questions"]),
        pairs=int(np.isfinite(js).sum()),
        js_min=float(np.nanmin(js)),
        js_max=float(np.nanmax(js)),
        js_mean=float(np.nanmean(js)),
        most_similar=similar,
        most_similar_js=_interval(matrix, similar),
        most_similar_cosine=_cosines(centroid_cosine, similar),
        most_divergent=divergent,
        most_divergent_js=_interval(matrix, divergent),
        most_divergent_cosine=_cosines(centroid_cosine, divergent),
    )


def extreme_pairs(logit_js_matrix: xr.Dataset, centroid_cosine: xr.Dataset) -> list[tuple[str, str]]:
    """Return the most divergent and the most similar pair of `headline`; one pair if both are the same."""
    numbers = headline(logit_js_matrix, centroid_cosine)
    return list(dict.fromkeys([numbers["most_divergent"], numbers["most_similar"]]))


def _interval(matrix: xr.Dataset, pair: tuple[str, str]) -> Interval:
    cell = matrix.sel(persona=pair[0], other=pair[1])
    return Interval(js=float(cell["js"]), js_low=float(cell["js_low"]), js_high=float(cell["js_high"]))


def _cosines(centroid_cosine: xr.Dataset, pair: tuple[str, str]) -> dict[str, dict[int, float]]:
    cosine = centroid_cosine["cosine"].sel(persona=pair[0], other=pair[1])
    return {
        str(population): {
            int(layer): float(cosine.sel(population=population, layer=layer))
            for layer in centroid_cosine["cosine"].sel(population=population).dropna("layer", how="all")["layer"].values
        }
        for population in cosine["population"].values
    }
