"""Label permutations and their blocks."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.labels import label_permutations, relabelling_blocks
from persona_assets.statistics.statement import UnanswerableError


def dyads(sources: list[int], unknown: list[tuple[int, int]], personas: int = 5) -> Dyads:
    """Make every dyad of the sources, and a predictor that is unknown in some ordered pairs."""
    source, target = np.array([(s, t) for s in sources for t in range(personas) if s != t]).T
    x = np.arange(float(personas**2)).reshape(personas, personas)
    for row, column in [*unknown, *((place, place) for place in range(personas))]:
        x[row, column] = np.nan
    rate = np.linspace(0, 1, len(source))
    names = tuple("abcdefgh"[:personas])
    return Dyads(names, source, target, rate, rate, rate, {"x": x}, ("",) * personas)


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 5))
def test_relabellings_of_few_personas_are_enumerated_once(first: int, second: int) -> None:
    personas = min(first + second, 8)
    order = np.random.default_rng(first).permutation(personas).tolist()
    blocks = {"sources": order[:first], "others": order[first:]}
    perms = label_permutations(personas, 10, seed=0, blocks=blocks)
    assert perms.exact
    assert perms.count == len(perms.places) == math.factorial(first) * math.factorial(personas - first)
    assert len(np.unique(perms.places, axis=0)) == perms.count
    np.testing.assert_array_equal(perms.places[0], np.arange(personas))
    for members in blocks.values():
        np.testing.assert_array_equal(np.sort(perms.places[:, members]), np.tile(sorted(members), (perms.count, 1)))


def test_relabellings_of_many_personas_are_random_with_a_seed() -> None:
    perms = label_permutations(11, 6000, seed=5)
    assert not perms.exact
    assert perms.count == 6000
    assert perms.places.shape == (6001, 11)
    np.testing.assert_array_equal(perms.places[0], np.arange(11))
    np.testing.assert_array_equal(np.sort(perms.places, axis=1), np.tile(np.arange(11), (6001, 1)))
    # each persona gets each label with frequency 1/11, within 5 standard errors
    shares = (perms.places[1:, :, None] == np.arange(11)).mean(axis=0)
    assert np.abs(shares - 1 / 11).max() < 5 * np.sqrt(1 / 11 * 10 / 11 / 6000)
    np.testing.assert_array_equal(label_permutations(11, 6000, seed=5).places, perms.places)


def test_the_enumeration_limit_is_inclusive() -> None:
    assert label_permutations(4, 10, seed=0, exact_up_to=24).exact
    assert not label_permutations(4, 10, seed=0, exact_up_to=23).exact
    assert label_permutations(8, 10, seed=0).count == 40_320
    assert label_permutations(9, 10, seed=0).count == 10


def test_random_labels_keep_to_their_blocks() -> None:
    perms = label_permutations(11, 50, seed=0, blocks={"sources": [0, 1, 6, 7, 10], "others": [2, 3, 4, 5, 8, 9]})
    assert not perms.exact
    assert set(np.unique(perms.places[:, [0, 1, 6, 7, 10]])) == {0, 1, 6, 7, 10}
    assert perms.structure == "labels exchangeable among the 5 sources and among the 6 others"


def test_every_persona_must_be_in_exactly_one_block() -> None:
    with pytest.raises(ValueError, match="expected each of the 4 personas in exactly one block"):
        label_permutations(4, 10, seed=0, blocks={"sources": [0, 1], "others": [1, 2, 3]})


def test_a_predictor_known_everywhere_is_relabelled_freely() -> None:
    assert relabelling_blocks(dyads([0, 3], []), ["x"]) is None


def test_a_predictor_known_only_for_sources_is_relabelled_within_blocks() -> None:
    between_others = [(s, t) for s in (1, 2, 4) for t in (1, 2, 4) if s != t]
    table = dyads([0, 3], between_others)
    blocks = relabelling_blocks(table, ["x"])
    assert blocks == {"sources": [0, 3], "others": [1, 2, 4]}
    reachable = label_permutations(5, 10, seed=0, blocks=blocks).reachable(table)
    np.testing.assert_array_equal(np.argwhere(reachable), np.stack([table.source, table.target], axis=1))


def test_an_unknown_value_needed_even_with_blocks_is_reported() -> None:
    with pytest.raises(UnanswerableError, match="x is unknown in 1 of the 8 ordered pairs that relabelling needs"):
        relabelling_blocks(dyads([0, 3], [(0, 2), (2, 1)]), ["x"])
