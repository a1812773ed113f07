"""Common order of personas in all figures, by hierarchical clustering."""

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
        order: all personas, similar ones next to each other.
        places: (joins, 4), for each join the positions along `order` of its bracket's four corners; persona number i is
            at i + 0.5.
        heights: (joins, 4), their heights: mean JS (nats) between the two joined groups, 0 at a persona.
            There are no joins if there are fewer than three personas or a value is missing.
    """

    order: list[str]
    places: Floats
    heights: Floats


def persona_tree(logit_js_matrix: xr.Dataset) -> Tree:
    """Cluster personas hierarchically by JS.

    Uses average linkage, which does not require JS to be a metric, and optimal leaf ordering (Bar-Joseph et al. 2001):
    among the orders that the tree allows, the one with the lowest JS between neighbours.

    Args:
        logit_js_matrix: `js` with dims (generators, persona, other), in nats; the subset `generators_shown` is used.
            A subset that gives (a, b) and (b, a) different values is averaged over the two.

    Returns:
        The tree; fewer than three personas, or a matrix with missing values, keep the given order.
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
    places = np.array(drawn["icoord"], dtype=np.float64) / 10  # SciPy puts leaf i at 10 i + 5
    order = [names[index] for index in leaves_list(joins)]
    return Tree(order, places, np.array(drawn["dcoord"], dtype=np.float64))


def persona_order(logit_js_matrix: xr.Dataset) -> list[str]:
    """Return the order of `persona_tree`."""
    return persona_tree(logit_js_matrix).order
