"""Personas as points of a plane whose distances are near √JS, and how sure each point is.

√JS is a metric, and one of a Hilbert space (Fuglede & Topsøe 2004, ISIT, p. 31); so is the root of a mean of JS. Taking
JS for squared distances, classical scaling (Torgerson 1952, Psychometrika 17, 401–419) therefore meets no negative
eigenvalue where the same responses count for every pair, and gives the plane that keeps most of the squared distances.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 500


class Map(NamedTuple):
    """Points of a plane.

    Attributes:
        points: (K, 2), √nats, centred; the axes are those of most spread, and each's largest coordinate is positive.
        spreads: (K, 2, 2), covariance of a point over resamples of the questions, each solution turned, mirrored and
            shifted onto `points` (Procrustes); NaN where there are fewer than three questions.
        kept: share of the sum of squared distances that each axis keeps.
    """

    points: Floats
    spreads: Floats
    kept: Floats


def persona_map(logit_js_matrix: xr.Dataset) -> Map:
    """The map of a JS matrix, in the order of its personas.

    Args:
        logit_js_matrix: `js` (generators, persona, other), in nats, of which the subset `generators_shown` is used, and
            its `js_by_question` (question, persona, other); a pair with two values stands by their mean. The bootstrap
            takes the attribute `seed`.

    Raises:
        ValueError: fewer than three personas, or a value that is missing.
    """
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    names = js["persona"].values
    if len(names) < 3 or not np.isfinite(js.to_numpy()).all():
        raise ValueError(f"JS of {len(names)} personas; expected three or more, and no value missing")
    points, kept = _scaled(_symmetric(js.transpose("persona", "other").sel(other=names).to_numpy()))
    by_question = (
        logit_js_matrix["js_by_question"].transpose("question", "persona", "other").sel(other=names).to_numpy()
    )
    questions = len(by_question)
    if questions < 3:
        return Map(points, np.full((len(names), 2, 2), np.nan), kept)
    draws = np.random.default_rng(int(logit_js_matrix.attrs["seed"])).multinomial(
        questions, np.full(questions, 1 / questions), size=RESAMPLES
    )
    means = np.tensordot(draws / questions, _symmetric(by_question), axes=1)
    moved = np.stack([_onto(points, _scaled(mean)[0]) for mean in means]) - points
    return Map(points, np.einsum("rki,rkj->kij", moved, moved) / len(moved), kept)


def _symmetric(values: Floats) -> Floats:
    symmetric = (values + values.swapaxes(-1, -2)) / 2
    return symmetric * (1 - np.eye(symmetric.shape[-1]))


def _scaled(squared: Floats) -> tuple[Floats, Floats]:
    """Classical scaling of squared distances to two axes."""
    centring = np.eye(len(squared)) - 1 / len(squared)
    values, vectors = np.linalg.eigh(-0.5 * centring @ squared @ centring)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    points = vectors[:, :2] * np.sqrt(values[:2])
    largest = points[np.abs(points).argmax(axis=0), [0, 1]]
    total = values.sum()
    return points * np.where(largest < 0, -1.0, 1.0), values[:2] / total if total else np.zeros(2)


def _onto(target: Floats, points: Floats) -> Floats:
    """Centred points, turned and mirrored so that they lie as near their targets as they can."""
    left, _, right = np.linalg.svd(points.T @ target)
    turned: Floats = points @ left @ right
    return turned
