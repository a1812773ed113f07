"""Where to write a short label beside a crowded point."""

import math
from collections.abc import Sequence
from functools import partial

Point = tuple[float, float]

_DIRECTIONS = [(math.cos(angle), math.sin(angle)) for angle in (math.pi * step / 8 for step in range(16))]
_REACHES = (1.0, 1.5, 2.2, 3.0, 4.0)


def place_labels(
    points: Sequence[Point], marked: Sequence[int], boxes: Sequence[Point], frame: tuple[float, float], clear: float
) -> list[Point]:
    """Find the nearest free place for each label, one after another.

    Args:
        points: every point of the panel, in any unit of length, from its lower left corner.
        marked: the indices of the points that get a label.
        boxes: width and height of each label.
        frame: width and height of the panel; labels stay within it.
        clear: how far a label keeps from the centre of every point.

    Returns:
        The centre of each label. Where every place tried is taken, the least crowded.
    """
    placed: list[tuple[Point, Point]] = []
    for index, box in zip(marked, boxes, strict=True):
        half = (box[0] / 2, box[1] / 2)
        origin = points[index]
        candidates = [
            (origin[0] + along * (half[0] + clear + further), origin[1] + up * (half[1] + clear + further))
            for further in ((reach - 1) * (half[1] + clear) for reach in _REACHES)
            for along, up in _DIRECTIONS
        ]
        inside = [place for place in candidates if _within(place, half, frame)] or candidates
        placed.append((min(inside, key=partial(_crowding, origin, half, points, placed, clear)), half))
    return [place for place, _ in placed]


def _within(place: Point, half: Point, frame: Point) -> bool:
    return all(half[axis] <= place[axis] <= frame[axis] - half[axis] for axis in (0, 1))


def _crowding(
    origin: Point,
    half: Point,
    points: Sequence[Point],
    placed: Sequence[tuple[Point, Point]],
    clear: float,
    place: Point,
) -> float:
    """How many points and labels a label here, and the line to it, would touch; labels weigh most.

    Ties go to the candidate named first.
    """
    near_points = sum(_gap(place, point, half) < clear * 0.95 for point in points)
    on_labels = sum(
        all(abs(place[axis] - other[axis]) < half[axis] + its[axis] for axis in (0, 1)) for other, its in placed
    )
    crossed = sum(_crosses(origin, place, other, its) for other, its in placed)
    return near_points + 10.0 * on_labels + 5.0 * crossed


def _crosses(start: Point, end: Point, place: Point, half: Point) -> bool:
    """Whether a line runs through a label's box."""
    steps = [(start[0] + (end[0] - start[0]) * t / 10, start[1] + (end[1] - start[1]) * t / 10) for t in range(11)]
    return any(all(abs(step[axis] - place[axis]) < half[axis] for axis in (0, 1)) for step in steps)


def _gap(place: Point, point: Point, half: Point) -> float:
    """From a point to the nearest edge of a label's box, 0 inside it."""
    return math.hypot(*(max(abs(place[axis] - point[axis]) - half[axis], 0.0) for axis in (0, 1)))
