"""LRU cache for the keys and values of prompts, limited to a tenth of the free memory."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from persona_assets.inference.loading import LoadedModel

Prompts = tuple[tuple[int, ...], ...]


class _Sized(Protocol):
    @property
    def bytes(self) -> int: ...


P = TypeVar("P", bound=_Sized)


class PrefixCache(Generic[P]):
    """LRU cache from the K prompts of a question to their keys and values.

    Attributes:
        budget: maximum size in bytes; the most recent entry is kept even if it is larger.
    """

    def __init__(self, loaded: LoadedModel, compute: Callable[[list[Prompts]], list[P]]) -> None:
        self._compute = compute
        self.budget = loaded.free_memory() // 10
        self._kept: OrderedDict[Prompts, P] = OrderedDict()

    def __call__(self, wanted: Sequence[Sequence[Sequence[int]]]) -> list[P]:
        """Return one prefix per group of prompts; compute all missing ones in one call."""
        keys: list[Prompts] = [tuple(map(tuple, prompts)) for prompts in wanted]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        fresh = dict(zip(missing, self._compute(missing), strict=True)) if missing else {}
        found = [fresh[key] if key in fresh else self._kept[key] for key in keys]
        self._kept |= fresh
        for key in keys:
            self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(prefix.bytes for prefix in self._kept.values()) > self.budget:
            self._kept.popitem(last=False)
        return found
