"""One order of personas for every figure, which puts alike ones beside one another, and the tree behind it."""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram, leaves_list, linkage
from scipy.spatial.distance import squareform

Floats = NDArray[np.float64]


class Tree(NamedTuple):
    """A clustering of personas.

    Attributes:
        order: every persona once, alike ones beside one another.
        places: (joins, 4), for each join the places along `order` of its bracket's four corners; persona number i
            stands at i + 0.5.
        heights: (joins, 4), their heights: mean JS (nats) between the two groups that are joined, 0 at a persona.
            No join where there are fewer than three personas or a value is missing.
    """

    order: list[str]
    places: Floats
    heights: Floats


def persona_tree(logit_js_matrix: xr.Dataset) -> Tree:
    """Hierarchical clustering of personas by their JS.

    Average linkage, which takes any dissimilarity and so does not ask JS to be a metric, with optimal leaf ordering
    (Bar-Joseph et al. 2001): among the orders that the tree allows, the one with the least JS between neighbours.

    Args:
        logit_js_matrix: `js` with dims (generators, persona, other), in nats; the subset `generators_shown` is used.
            A subset that gives (a, b) and (b, a) different values is averaged over the two.

    Returns:
        Fewer than three personas, or a matrix with a value missing, keep their given order.
    """
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    names = [str(name) for name in js["persona"].values]
    values = js.transpose("persona", "other").sel(other=js["persona"].values).to_numpy().astype(float)
    symmetric = (values + values.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    if len(names) < 3 or not np.isfinite(symmetric).all():
        return Tree(names, np.empty((0, 4)), np.empty((0, 4)))
    joins = linkage(squareform(symmetric), method="average", optimal_ordering=True)
    drawn = dendrogram(joins, no_plot=True)
    places = np.array(drawn["icoord"], dtype=np.float64) / 10  # SciPy puts leaf number i at 10 i + 5
    order = [names[index] for index in leaves_list(joins)]
    return Tree(order, places, np.array(drawn["dcoord"], dtype=np.float64))


def persona_order(logit_js_matrix: xr.Dataset) -> list[str]:
    """The order of `persona_tree`."""
    return persona_tree(logit_js_matrix).order
