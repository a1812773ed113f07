"""Classical scaling of JS: personas as points in a plane whose distances approximate √JS, with their uncertainty.

√JS is a metric that embeds into a Hilbert space (Fuglede & Topsøe 2004, ISIT, p. 31), and so is the root of a mean JS.
Classical scaling (Torgerson 1952, Psychometrika 17, 401–419) with JS as squared distances therefore has no negative
eigenvalues if every pair is averaged over the same responses, and gives the plane that preserves most of the squared
distances.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 500


class Map(NamedTuple):
    """Map of the personas.

    Attributes:
        points: (K, 2), √nats, centred; principal axes, signed so that the coordinate of largest magnitude is positive.
        spreads: (K, 2, 2), covariance of each point over resamples of the questions, each solution aligned with
            `points` (orthogonal Procrustes); NaN with fewer than three questions.
        kept: share of the sum of squared distances that each axis preserves.
    """

    points: Floats
    spreads: Floats
    kept: Floats


def persona_map(logit_js_matrix: xr.Dataset) -> Map:
    """Compute the map of a JS matrix, in the order of its personas.

    Args:
        logit_js_matrix: `js` (generators, persona, other), in nats, of which the subset `generators_shown` is used, and
            `js_by_question` (question, persona, other). A pair with two values is represented by their mean. The
            attribute `seed` seeds the bootstrap.

    Raises:
        ValueError: there are fewer than three personas, or a value is missing.
    """
    js = logit_js_matrix["js"].sel(generators=logit_js_matrix.attrs["generators_shown"])
    names = js["persona"].values
    if len(names) < 3 or not np.isfinite(js.to_numpy()).all():
        raise ValueError(
            f"logit_js_matrix: found JS of {len(names)} personas; expected three or more, with no value missing"
        )
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
    """Scale squared distances to two axes (classical scaling); return points and preserved shares."""
    centring = np.eye(len(squared)) - 1 / len(squared)
    values, vectors = np.linalg.eigh(-0.5 * centring @ squared @ centring)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    points = vectors[:, :2] * np.sqrt(values[:2])
    largest = points[np.abs(points).argmax(axis=0), [0, 1]]
    total = values.sum()
    return points * np.where(largest < 0, -1.0, 1.0), values[:2] / total if total else np.zeros(2)


def _onto(target: Floats, points: Floats) -> Floats:
    """Rotate and reflect centred points onto their targets (orthogonal Procrustes)."""
    left, _, right = np.linalg.svd(points.T @ target)
    turned: Floats = points @ left @ right
    return turned
