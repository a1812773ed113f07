"""Keys and values of prompts that come back: kept as long as they fit a tenth of the memory that is free."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from persona_assets.inference.loading import LoadedModel

Prompts = tuple[tuple[int, ...], ...]


class _Kept(Protocol):
    @property
    def bytes(self) -> int: ...


P = TypeVar("P", bound=_Kept)


class KeptPrefixes(Generic[P]):
    """The K prompts of a question → what was computed from them, least recently used first to go."""

    def __init__(self, loaded: LoadedModel, compute: Callable[[list[Prompts]], list[P]]) -> None:
        self._compute = compute
        self.budget = loaded.free_memory() // 10
        self._kept: OrderedDict[Prompts, P] = OrderedDict()

    def __call__(self, wanted: Sequence[Sequence[Sequence[int]]]) -> list[P]:
        """One prefix for each group of prompts; those that are not kept are computed together."""
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
