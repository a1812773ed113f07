"""Permutations of personas' labels, within blocks of exchangeable personas."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations as orders
from itertools import product

import numpy as np
from numpy.typing import NDArray

from persona_assets.statistics.dyads import Dyads
from persona_assets.statistics.statement import UnanswerableError

Ints = NDArray[np.int64]
Blocks = Mapping[str, Sequence[int]]


@dataclass(frozen=True, eq=False)
class LabelPermutations:
    """Permutations of K personas, the first of them the identity.

    Attributes:
        places: shape (R, K): persona k gets the label of persona places[r, k].
        exact: whether these are all permitted permutations.
        count: number of permutations: R if exact, otherwise R − 1, because the identity is not a random draw.
        block: shape (K,), number of each persona's block; labels are permuted within blocks only.
        structure: what is assumed to be exchangeable, in words.
    """

    places: Ints
    exact: bool
    count: int
    block: Ints
    structure: str

    def reachable(self, dyads: Dyads) -> NDArray[np.bool_]:
        """Return which ordered pairs, (K, K), a permitted relabelling can map to a measured dyad."""
        blocks = int(self.block.max()) + 1
        met = np.zeros((blocks, blocks), dtype=bool)
        met[self.block[dyads.source], self.block[dyads.target]] = True
        return np.asarray(met[np.ix_(self.block, self.block)] & ~np.eye(len(self.block), dtype=bool))


def label_permutations(
    personas: int, permutations: int, seed: int, blocks: Blocks | None = None, exact_up_to: int = 50_000
) -> LabelPermutations:
    """Return all label permutations if there are few, otherwise the identity and `permutations` random ones.

    Args:
        personas: K.
        blocks: name → indices of the personas that may exchange labels, with every persona in one block; None for one
            block of all personas.
        exact_up_to: enumerate if K! (with blocks, the product of their factorials) is at most this.
    """
    members = {"personas": range(personas)} if blocks is None else blocks
    columns = [np.sort(np.asarray(places, dtype=np.int64)) for places in members.values() if len(places)]
    if sorted(np.concatenate(columns).tolist()) != list(range(personas)):
        raise ValueError(f"blocks are {dict(members)}; expected each of the {personas} personas in exactly one block")
    block = np.empty(personas, dtype=np.int64)
    for number, column in enumerate(columns):
        block[column] = number
    exact = math.prod(math.factorial(len(column)) for column in columns) <= exact_up_to
    of_blocks = _all_orders(columns) if exact else _random_orders(columns, permutations, np.random.default_rng(seed))
    places = np.empty((len(of_blocks[0]), personas), dtype=np.int64)
    for column, order in zip(columns, of_blocks, strict=True):
        places[:, column] = order
    named = " and among the ".join(f"{len(places)} {name}" for name, places in members.items() if len(places))
    return LabelPermutations(
        places=places,
        exact=exact,
        count=len(places) if exact else permutations,
        block=block,
        structure=f"labels exchangeable among the {named}",
    )


def _all_orders(columns: list[Ints]) -> list[Ints]:
    """Return one (R, size) array per block: all combinations of the blocks' orders, the identity first."""
    combined = list(product(*(orders(column.tolist()) for column in columns)))
    return [np.array(block) for block in zip(*combined, strict=True)]


def _random_orders(columns: list[Ints], permutations: int, rng: np.random.Generator) -> list[Ints]:
    """Return one (1 + permutations, size) array per block, the identity first."""
    return [
        np.concatenate([column[None], rng.permuted(np.tile(column, (permutations, 1)), axis=1)]) for column in columns
    ]


def relabelling_blocks(dyads: Dyads, predictors: Sequence[str]) -> Blocks | None:
    """Return the least restrictive blocks for relabelling that need only measured values.

    None if the predictors are known between all personas; blocks of sources and others if they are known at least for
    pairs with a source (for example a published cosine of sources only).

    Raises:
        UnanswerableError: even with these blocks an unknown value would be needed.
    """
    sources = dyads.sources.tolist()
    others = [place for place in range(len(dyads.personas)) if place not in sources]
    free = label_permutations(len(dyads.personas), 1, seed=0)
    if not unknown_cells(dyads, predictors, free):
        return None
    blocks = {"sources": sources, "others": others}
    within = label_permutations(len(dyads.personas), 1, seed=0, blocks=blocks)
    if unknown := unknown_cells(dyads, predictors, within):
        raise UnanswerableError(unknown)
    return blocks


def unknown_cells(dyads: Dyads, predictors: Sequence[str], perms: LabelPermutations) -> str:
    """Describe the unknown values that relabelling needs; "" if there are none."""
    reachable = perms.reachable(dyads)
    for name in predictors:
        if missing := int(np.isnan(dyads.predictors[name][reachable]).sum()):
            return f"{name} is unknown in {missing} of the {int(reachable.sum())} ordered pairs that relabelling needs"
    return ""
