"""Which personas may exchange their labels, and all or many of the ways to do so."""

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
        places: shape (R, K): persona k bears the label of persona places[r, k].
        exact: whether these are all the permutations that are permitted.
        count: how many were made: R where exact, else R − 1, the identity being no draw.
        block: shape (K,), number of each persona's block; labels move within blocks only.
        structure: what is taken as exchangeable, in words.
    """

    places: Ints
    exact: bool
    count: int
    block: Ints
    structure: str

    def reachable(self, dyads: Dyads) -> NDArray[np.bool_]:
        """Ordered pairs, shape (K, K), that a permitted relabelling can bring to a measured dyad."""
        blocks = int(self.block.max()) + 1
        met = np.zeros((blocks, blocks), dtype=bool)
        met[self.block[dyads.source], self.block[dyads.target]] = True
        return np.asarray(met[np.ix_(self.block, self.block)] & ~np.eye(len(self.block), dtype=bool))


def label_permutations(
    personas: int, permutations: int, seed: int, blocks: Blocks | None = None, exact_up_to: int = 50_000
) -> LabelPermutations:
    """All label permutations where there are few, else the identity and `permutations` random ones.

    Args:
        personas: K.
        blocks: name → places of the personas that may exchange labels, every persona in one of them; None for all.
        exact_up_to: enumerate when K! (with blocks, the product of their factorials) is at most this.
    """
    members = {"personas": range(personas)} if blocks is None else blocks
    columns = [np.sort(np.asarray(places, dtype=np.int64)) for places in members.values() if len(places)]
    if sorted(np.concatenate(columns).tolist()) != list(range(personas)):
        raise ValueError(f"blocks hold {dict(members)}; expected each of the {personas} personas in one of them")
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
    """One (R, size) array a block: all combinations of the blocks' orders, the identity first."""
    combined = list(product(*(orders(column.tolist()) for column in columns)))
    return [np.array(block) for block in zip(*combined, strict=True)]


def _random_orders(columns: list[Ints], permutations: int, rng: np.random.Generator) -> list[Ints]:
    """One (1 + permutations, size) array a block, the identity first."""
    return [
        np.concatenate([column[None], rng.permuted(np.tile(column, (permutations, 1)), axis=1)]) for column in columns
    ]


def relabelling_blocks(dyads: Dyads, predictors: Sequence[str]) -> Blocks | None:
    """The freest relabelling that needs no value that nobody measured.

    None where the predictors are known between all personas; blocks of sources and others where they are known at
    least where a source is involved (a published cosine of sources only, say).

    Raises:
        UnanswerableError: even then a value would be needed that is unknown.
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
    """What a relabelling would need and nobody measured; "" where there is nothing."""
    reachable = perms.reachable(dyads)
    for name in predictors:
        if missing := int(np.isnan(dyads.predictors[name][reachable]).sum()):
            return f"{name} is unknown in {missing} of the {int(reachable.sum())} ordered pairs that relabelling needs"
    return ""
