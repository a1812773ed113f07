"""Placement of short labels next to crowded points.

Each label has about two hundred candidate places around its point. A choice of places has a cost: for a label on
another label, on a point, or closer to another point than to its own; for a tie (the line from a point to its label)
through a label, past another point or across another tie; and for the length of ties. From several starts, each label
in turn moves to the place with the lowest cost given all others, until none moves (iterated conditional modes; Besag
1986).

Two libraries were tried on the map of eleven personas: adjustText (force-directed) draws ties over labels; textalloc
(one label after another) draws ties through other points and finds no place for the last labels of a crowd.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Point = tuple[float, float]

_ANGLES = np.arange(24) * np.pi / 12
_GAPS = np.array([0.0, 0.6, 1.3, 2.2, 3.4, 5.0, 7.0, 9.0, 12.0, 15.0])
# Maxima; reduced for many labels, because the cost grows with the square of their number.
_STARTS, _SWEEPS = 10, 12
_GOOD_ENOUGH = 0.5  # cost per label above its lowest possible cost
_TIED_FROM = 1.0  # a label this much farther away than necessary gets a tie
_TIE_CLEAR = 0.9

# Costs; a tie also costs 1 per millimetre.
_ON_LABEL, _ON_POINT, _OUTSIDE, _THROUGH_LABEL, _OVER_TIE, _PAST_POINT, _AMBIGUOUS = 100, 60, 200, 60, 40, 25, 6
_NOT_LEVEL, _NOT_RIGHT = 0.5, 0.3


class Place(NamedTuple):
    """Centre of a label, and the end of its tie on the label's edge; None if the label is next to its point."""

    centre: Point
    tie: Point | None


class _Places(NamedTuple):
    """Candidate places: centres, ends of ties (…, 2), whether tied, and the cost independent of other labels."""

    centre: Floats
    end: Floats
    tied: NDArray[np.bool_]
    cost: Floats


def place_labels(
    points: Sequence[Point], marked: Sequence[int], boxes: Sequence[Point], frame: Point, clear: float
) -> list[Place]:
    """Choose a place for each label.

    Args:
        points: all points of the panel, in millimetres from its lower left corner.
        marked: indices of the points that get a label.
        boxes: width and height of each label.
        frame: width and height of the panel; labels stay inside.
        clear: minimum distance of a label from the centre of every point.
    """
    at = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    half = np.asarray(boxes, dtype=np.float64).reshape(-1, 2) / 2
    offered = [_offered(at, index, size, frame, clear) for index, size in zip(marked, half, strict=True)]
    random, best = np.random.default_rng(0), (np.inf, [0] * len(half))
    starts, sweeps = (max(least, min(most, 150 // max(1, len(half)))) for least, most in ((1, _STARTS), (3, _SWEEPS)))
    for start in range(starts if len(half) else 0):
        nearest = [int(places.cost.argmin()) for places in offered]
        chosen = nearest if start == 0 else [int(random.integers(len(places.cost))) for places in offered]
        for _ in range(sweeps):
            before = list(chosen)
            for label in random.permutation(len(half)) if start else range(len(half)):
                chosen[label] = int(_costs(offered, chosen, at[list(marked)], half, int(label)).argmin())
            if chosen == before:
                break
        total = sum(
            _costs(offered, chosen, at[list(marked)], half, label)[chosen[label]] + offered[label].cost[chosen[label]]
            for label in range(len(half))
        )
        best = min(best, (float(total), chosen))
        if best[0] < sum(2 * places.cost.min() + _GOOD_ENOUGH for places in offered):
            break
    return [
        Place(_pair(places.centre[index]), _pair(places.end[index]) if places.tied[index] else None)
        for places, index in zip(offered, best[1], strict=True)
    ]


def _pair(place: Floats) -> Point:
    return float(place[0]), float(place[1])


def _offered(points: Floats, index: int, half: Floats, frame: Point, clear: float) -> _Places:
    origin = points[index]
    unit = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
    gaps = (clear + _GAPS)[:, None, None]
    centre = (origin + unit * gaps + np.clip(1.5 * unit, -1, 1) * half).reshape(-1, 2)
    end = np.clip(origin, centre - half, centre + half)
    length = np.hypot(*(end - origin).T)
    tied = length > clear + _TIED_FROM
    strange = np.delete(points, index, axis=0)
    cost = length + _NOT_LEVEL * (np.abs(centre[:, 1] - origin[1]) > 0.1) + _NOT_RIGHT * (centre[:, 0] < origin[0])
    outside = (centre - half < 0) | (centre + half > np.asarray(frame))
    cost = cost + _OUTSIDE * outside.any(axis=1)
    if len(strange):
        apart = np.hypot(*np.moveaxis(np.maximum(np.abs(centre[:, None] - strange) - half, 0), -1, 0))
        near = apart.min(axis=1)
        cost = cost + _ON_POINT * (apart < clear * 0.95).sum(axis=1)
        cost = cost + _AMBIGUOUS * (near < length + 0.5)
        passed = _from_segment(origin, end, strange) < _TIE_CLEAR
        # A tie cannot avoid points that coincide with its own point.
        far = np.hypot(*(strange - origin).T) > _TIE_CLEAR
        cost = cost + _PAST_POINT * (passed & far).sum(axis=1) * tied
    return _Places(centre, end, tied, cost)


def _costs(offered: list[_Places], chosen: list[int], origins: Floats, half: Floats, label: int) -> Floats:
    """Return the cost of every place of a label, given the current places of the other labels."""
    own, cost = offered[label], offered[label].cost
    for other, (places, index) in enumerate(zip(offered, chosen, strict=True)):
        if other == label:
            continue
        centre, end = places.centre[index], places.end[index]
        touching = (np.abs(own.centre - centre) < half[label] + half[other] + 0.15).all(axis=1)
        through = own.tied & _enters(origins[label], own.end, centre, half[other])
        cost = cost + _ON_LABEL * touching + _THROUGH_LABEL * through
        if places.tied[index]:
            cost = cost + _THROUGH_LABEL * _enters(origins[other], end[None], own.centre, half[label])
            cost = cost + _OVER_TIE * (own.tied & _cross(origins[label], own.end, origins[other], end))
    return cost


def _from_segment(start: Floats, ends: Floats, points: Floats) -> Floats:
    """Return the distances (n, m) of points (m, 2) from segments start–end, ends (n, 2)."""
    along = ends - start
    length = np.maximum((along**2).sum(axis=1), 1e-12)
    share = np.clip(((points - start) @ along.T).T / length[:, None], 0, 1)
    nearest = start + share[..., None] * along[:, None]
    return np.asarray(np.hypot(*np.moveaxis(nearest - points, -1, 0)))


def _enters(start: Floats, ends: Floats, centre: Floats, half: Floats) -> NDArray[np.bool_]:
    """Return whether segments start–end intersect boxes (slab method); ends and centres broadcast."""
    along = np.where((step := ends - start) == 0, 1e-12, step)
    first, second = (centre - half - 0.2 - start) / along, (centre + half + 0.2 - start) / along
    enter, leave = np.minimum(first, second).max(axis=-1), np.maximum(first, second).min(axis=-1)
    return np.asarray(np.maximum(enter, 0) < np.minimum(leave, 1))


def _cross(start: Floats, ends: Floats, other_start: Floats, other_end: Floats) -> NDArray[np.bool_]:
    """Return whether each of n segments start–end crosses another segment."""

    def side(a: Floats, b: Floats, c: Floats) -> Floats:
        return (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0])

    apart = side(start, ends, other_start) * side(start, ends, other_end) < 0
    return np.asarray(apart & (side(other_start, other_end, start) * side(other_start, other_end, ends) < 0))
