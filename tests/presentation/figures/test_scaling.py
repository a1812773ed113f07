"""The map of the personas: known distances are recovered, and so is the spread over questions."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import cdist, pdist

from persona_assets.presentation.figures.map import map_of_personas
from persona_assets.presentation.figures.scaling import persona_map
from tests.presentation.conftest import Synthetic

PLACES = np.array([[0.0, 0.0], [0.3, 0.1], [-0.2, 0.25], [0.1, -0.15]])


def matrix_of(places: np.ndarray, by_question: list[np.ndarray] | None = None) -> xr.Dataset:
    """Return a JS matrix whose root is the distance of places, with one set of places per question."""
    names = [f"p{number}" for number in range(len(places))]
    squared = cdist(places, places) ** 2
    each = np.stack([squared] * 5 if by_question is None else [cdist(at, at) ** 2 for at in by_question])
    return xr.Dataset(
        {
            "js": (("generators", "persona", "other"), squared[None]),
            "js_by_question": (("question", "persona", "other"), each),
        },
        coords={"generators": ["all"], "persona": names, "other": names},
        attrs={"generators_shown": "all", "seed": 3},
    )


def test_distances_in_a_plane_are_recovered_exactly() -> None:
    points, spreads, kept = persona_map(matrix_of(PLACES))
    np.testing.assert_allclose(pdist(points), pdist(PLACES), atol=1e-12)
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)
    assert kept.sum() == pytest.approx(1)
    assert kept[0] > kept[1] > 0
    np.testing.assert_allclose(spreads, 0, atol=1e-12)  # all questions are identical


def test_a_persona_that_moves_between_questions_has_the_largest_spread() -> None:
    random = np.random.default_rng(0)
    moved = [PLACES + np.array([[0, 0], [0, 0], [0, 0], step]) for step in random.normal(0, 0.08, (40, 2))]
    # Swapping the axes rotates and reflects the whole map, which does not change distances.
    _, spreads, _ = persona_map(matrix_of(PLACES, [places @ np.array([[0.0, 1.0], [1.0, 0.0]]) for places in moved]))
    sizes = np.linalg.det(spreads) ** 0.25
    assert sizes.argmax() == 3
    # About σ/√questions, reduced by the alignment with the map.
    assert 0.3 * 0.08 / 40**0.5 < sizes[3] < 1.5 * 0.08 / 40**0.5


def test_two_questions_give_no_spread() -> None:
    assert np.isnan(persona_map(matrix_of(PLACES, [PLACES, PLACES])).spreads).all()


def test_two_personas_and_missing_values_are_rejected() -> None:
    with pytest.raises(ValueError, match="JS of 2 personas; expected three or more"):
        persona_map(matrix_of(PLACES[:2]))
    holey = matrix_of(PLACES)
    holey["js"][0, 0, 1] = np.nan
    with pytest.raises(ValueError, match="no value missing"):
        persona_map(holey)


def test_every_persona_is_named_once_and_the_baseline_is_distinct(eleven: Synthetic) -> None:
    figure = map_of_personas(eleven.logit_js_matrix, "assistant")
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {name.replace("_", " ") for name in eleven.names}
    assert [line.get_marker() for line in axes.lines if line.get_marker() not in ("None", None)].count("D") == 1
    assert len(axes.patches) == len(eleven.names)
    width, height = figure.get_size_inches() * axes.get_position().bounds[2:]
    across, up = np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())
    assert width / across == pytest.approx(height / up)  # equal scales
