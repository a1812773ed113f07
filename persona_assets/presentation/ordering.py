"""One order of personas, shared by every figure, that puts alike personas beside one another."""

import numpy as np
import xarray as xr
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform


def persona_order(logit_js_matrix: xr.Dataset) -> list[str]:
    """Order personas by hierarchical clustering of their JS.

    Average linkage, which takes any dissimilarity and so does not ask JS to be a metric, with optimal leaf ordering
    (Bar-Joseph et al. 2001): among the orders that the tree allows, the one with the least JS between neighbours.

    Args:
        logit_js_matrix: `js` with dims (generators, persona, other), in nats; the subset `generators_shown` is used.
            A subset that gives (a, b) and (b, a) different values is averaged over the two.

    Returns:
        Every persona once. Fewer than three personas, or a matrix with a value missing, keep their given order.
    """
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    names = [str(name) for name in js["persona"].values]
    values = js.transpose("persona", "other").sel(other=js["persona"].values).to_numpy().astype(float)
    symmetric = (values + values.T) / 2
    np.fill_diagonal(symmetric, 0.0)
    if len(names) < 3 or not np.isfinite(symmetric).all():
        return names
    tree = linkage(squareform(symmetric), method="average", optimal_ordering=True)
    return [names[index] for index in leaves_list(tree)]
