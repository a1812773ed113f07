"""Label placement: no overlap with points, labels or ties if there is enough space."""

import numpy as np
import pytest

from persona_assets.presentation.layout.placement import Place, place_labels

FRAME = (60.0, 50.0)
BOX = (14.0, 2.6)
CLEAR = 1.2


def crowd(seed: int, points: int, spread: float) -> list[tuple[float, float]]:
    random = np.random.default_rng(seed)
    return [(float(x), float(y)) for x, y in random.normal((30, 25), spread, (points, 2))]


def touching(places: list[Place], box: tuple[float, float]) -> int:
    centres = np.array([place.centre for place in places])
    near = (np.abs(centres[:, None] - centres) < box).all(axis=-1)
    return int(np.triu(near, 1).sum())


def covered(places: list[Place], box: tuple[float, float], points: list[tuple[float, float]]) -> int:
    centres, at = np.array([place.centre for place in places]), np.array(points)
    return int((np.abs(centres[:, None] - at) < np.array(box) / 2).all(axis=-1).sum())


@pytest.mark.parametrize("seed", range(4))
def test_crowded_labels_do_not_overlap_and_stay_in_the_frame(seed: int) -> None:
    points = crowd(seed, 11, 6.0)
    places = place_labels(points, range(11), [BOX] * 11, FRAME, CLEAR)
    assert touching(places, BOX) == 0
    assert covered(places, BOX, points) == 0
    for place in places:
        assert all(side / 2 <= at <= end - side / 2 for at, side, end in zip(place.centre, BOX, FRAME, strict=True))


def test_ties_avoid_labels_and_other_points() -> None:
    points = [*((24 + 1.6 * step, 25.0) for step in range(9)), (10.0, 10.0)]
    places = place_labels(points, range(10), [BOX] * 10, FRAME, CLEAR)
    assert places[9].tie is None  # an isolated label is next to its point
    assert sum(place.tie is not None for place in places) >= 3
    for index, place in enumerate(places):
        if place.tie is None:
            continue
        along = np.linspace(points[index], place.tie, 40)
        for other, name in enumerate(places):
            inside = (np.abs(along - name.centre) < np.array(BOX) / 2).all(axis=1)
            assert not inside[: -1 if other == index else None].any()
        strangers = np.delete(np.array(points), index, axis=0)
        assert np.hypot(*(along[:, None] - strangers).transpose(2, 0, 1)).min() > 0.8


def test_an_isolated_label_is_to_the_right_of_its_point() -> None:
    (place,) = place_labels([(20.0, 20.0)], [0], [BOX], FRAME, CLEAR)
    assert place.centre == pytest.approx((20.0 + CLEAR + BOX[0] / 2, 20.0))
    assert place.tie is None


def test_a_label_at_the_edge_stays_inside() -> None:
    (place,) = place_labels([(58.0, 20.0)], [0], [BOX], FRAME, CLEAR)
    assert place.centre[0] <= FRAME[0] - BOX[0] / 2


def test_only_marked_points_get_labels() -> None:
    points = crowd(1, 40, 9.0)
    places = place_labels(points, [3, 17], [(2.0, 2.2)] * 2, FRAME, 1.0)
    assert len(places) == 2
    assert covered(places, (2.0, 2.2), points) == 0
    assert place_labels(points, [], [], FRAME, 1.0) == []


def test_placement_is_deterministic() -> None:
    points = crowd(2, 11, 4.0)
    assert place_labels(points, range(11), [BOX] * 11, FRAME, CLEAR) == place_labels(
        points, range(11), [BOX] * 11, FRAME, CLEAR
    )
